"""The page's files: served with their types, within the content policy, with vendored files as they were published."""

import hashlib
import json
import re

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from longtake.server.errors import ApiError, on_api_error, on_http_error
from longtake.studio.facts import strategies
from longtake.studio.machine import MachineWatch
from longtake.studio.page import STATIC, files, page_routes

MOST_LINES = 300


@pytest.fixture(scope="module")
def client():
    handlers = {ApiError: on_api_error, HTTPException: on_http_error}
    return TestClient(Starlette(routes=page_routes(), exception_handlers=handlers))


def own_files(suffix):
    return [path for path in STATIC.rglob(f"*{suffix}") if "vendor" not in path.parts]


def test_the_page_and_all_that_it_names_are_served(client):
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    for name in re.findall(r'(?:href|src)="([^"#]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200, name
    for name in files():
        found = client.get(f"/static/{name}")
        assert found.status_code == 200 and found.headers["cache-control"] == "no-cache"


def test_a_file_that_the_browser_has_is_not_sent_again(client):
    first = client.get("/static/js/main.js")
    again = client.get("/static/js/main.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content


@pytest.mark.parametrize("name", ["nothing.js", "../page.py", "..%2fpage.py", "js", "", "vendor/vendor.json/x"])
def test_nothing_else_is_served(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_modules_import_what_there_is():
    for path in own_files(".js"):
        for name in re.findall(r'(?:from|import) ?\(?"(\.[^"]+)"', path.read_text()):
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def test_the_policy_allows_all_that_the_page_does():
    html = (STATIC / "index.html").read_text()
    assert " style=" not in html and "<style" not in html and not re.search(r"\son\w+=", html)
    assert not re.search(r"<script(?![^>]*src=)", html)
    for path in own_files(".js"):
        text = path.read_text()
        for word in (
            "innerHTML",
            "insertAdjacentHTML",
            "outerHTML",
            "eval(",
            "new Function",
            "document.write",
            "style=",
        ):
            assert word not in text, f"{path.name} uses {word}"


def test_nothing_is_fetched_from_elsewhere_and_nothing_moves_for_ever():
    for path in [*own_files(".js"), *own_files(".css"), STATIC / "index.html"]:
        text = path.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path.name
        assert "infinite" not in text, path.name


def test_files_are_short():
    for path in [*own_files(".js"), *own_files(".css")]:
        assert len(path.read_text().splitlines()) <= MOST_LINES, path.name


def test_vendored_files_are_those_that_were_published():
    vendor = STATIC / "vendor"
    listed = json.loads((vendor / "vendor.json").read_text())
    there = {path.name for path in vendor.iterdir()} - {"vendor.json"}
    assert there == set(listed)
    for name, facts in listed.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == facts["sha256"], name


def test_the_page_knows_the_machine_and_every_strategy():
    machine = MachineWatch(cpu=True).look()
    assert machine.name and (machine.memory is None or machine.memory > 1 << 28)
    assert all(one["title"] and one["about"] for one in strategies())


def test_every_word_is_used():
    """Words that nothing shows would be translated in vain. Some keys are put together: goAbout, found_one."""
    code = "".join(path.read_text() for path in own_files(".js") if "words" not in path.parts)
    words = (STATIC / "words" / "en.js").read_text()
    for key in re.findall(r"\b([A-Za-z_]+): \"", words):
        base = key.removesuffix("_one").removesuffix("About")
        assert re.search(rf"\b{key}\b", code) or (base != key and re.search(rf'"{base}"', code)), key
