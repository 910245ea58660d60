"""Released checkpoints are downloaded from a stand-in of the hub: at one commit, one at a time, and on from what is there."""

import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from starlette.testclient import TestClient

from longtake.models.checkpoints import hub as checkpoints
from longtake.models.checkpoints import hub_cache
from longtake.models.registry import presets
from longtake.runs.jobs.queue import JobQueue
from longtake.server import app as server_app
from longtake.server.app import create_app
from longtake.server.downloads.downloads import Downloads
from longtake.server.events.history import History
from longtake.server.requests.catalogue import Catalogue
from longtake.server.requests.model_files import ModelFiles
from tests.server.downloads.hub import COMMIT, Hub, served_hub, until

PRESET = next(one for one in presets().values() if one.hub)
OTHER = next(one for one in presets().values() if one.hub not in (PRESET.hub, None))
BIG = "transformer/model.safetensors"
FILES = {"model_index.json": b"{}", "vae/v.safetensors": b"v" * 50_000, BIG: b"t" * 400_000, "run.py": b"x" * 100}
BYTES = sum(len(data) for name, data in FILES.items() if name != "run.py")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub, for this process and for those that it starts."""
    found = Hub(PRESET.hub, FILES)
    with served_hub(found) as address:
        for name, value in (("HF_ENDPOINT", address), ("HF_HUB_CACHE", str(tmp_path / "cache"))):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield found


@pytest.fixture
def history():
    return History()


@pytest.fixture
def client(hub, history, monkeypatch, tmp_path):
    monkeypatch.setattr(server_app, "Downloads", lambda publish: Downloads(history.publish, poll=0.02))
    with (
        JobQueue(tmp_path / "videos") as queue,
        TestClient(
            create_app(queue, Catalogue(ModelFiles([tmp_path / "models"]))), base_url="http://localhost"
        ) as client,
    ):
        yield client


def state(client):
    return client.get(f"/v1/models/{PRESET.name}").json()


def ended(client):
    until(lambda: not state(client)["download"]["running"])
    return state(client)


def half_done(client, hub):
    """Start a download that stops in the middle of its largest file, with the others complete."""
    hub.held = {BIG}
    started = client.post(f"/v1/models/{PRESET.name}/download")
    assert started.status_code == 200 and started.json()["download"]["running"], started.text
    until(lambda: BIG in hub.sent)
    until(lambda: all((snapshot(hub) / name).exists() for name in ("vae/v.safetensors", "model_index.json")))


def snapshot(hub):
    return hub_cache.cache_root() / f"models--{hub.repo.replace('/', '--')}" / "snapshots" / COMMIT


def test_a_download_is_followed_and_then_here(client, hub, history):
    before = state(client)
    assert not before["here"] and before["download"] == {
        "running": False, "bytes": 0, "total": None, "revision": PRESET.revision, "error": None,
    }  # fmt: skip
    half_done(client, hub)
    other = client.post(f"/v1/models/{OTHER.name}/download")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "download_running")
    hub.release()
    after = ended(client)
    assert after["here"] and after["download"] == {
        "running": False, "bytes": BYTES, "total": BYTES, "revision": COMMIT, "error": None,
    }  # fmt: skip
    assert "run.py" not in hub.sent and checkpoints.cached(PRESET.hub) == snapshot(hub)
    events = [one for one in history.after(0).events if one.name == "download"]
    assert {one.subject for one in events} == {PRESET.name} and '"here":true' in events[-1].data
    asked = len(hub.revisions), len(hub.sent)
    assert client.post(f"/v1/models/{PRESET.name}/download").json()["here"]
    assert checkpoints.fetch(PRESET.hub) == checkpoints.fetch(PRESET.hub, offline=True) == snapshot(hub)
    assert (len(hub.revisions), len(hub.sent)) == asked  # what is here needs no network


def test_a_stopped_download_keeps_complete_files_and_its_commit(client, hub):
    half_done(client, hub)
    stopped = client.delete(f"/v1/models/{PRESET.name}/download").json()
    assert not stopped["here"] and not stopped["download"]["running"] and stopped["download"]["error"] is None
    assert stopped["download"]["bytes"] == BYTES - len(FILES[BIG])
    assert not list(snapshot(hub).parents[1].rglob("*.incomplete"))
    hub.release()
    hub.sent.clear()
    hub.revisions.clear()
    client.post(f"/v1/models/{PRESET.name}/download")
    assert ended(client)["here"] and hub.sent == [BIG]
    assert hub.revisions and set(hub.revisions) == {COMMIT}


def test_what_does_not_fit_is_refused_in_words(client, hub, monkeypatch):
    hub.sizes[BIG] = 10**15
    refused = client.post(f"/v1/models/{PRESET.name}/download")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (507, "disk_too_small") and "1000000.0 GB more" in error["message"]
    assert refused.headers["x-should-retry"] == "false" and not hub.sent
    assert not state(client)["download"]["running"]


def test_an_unreachable_hub_and_other_models(client, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused = client.post(f"/v1/models/{PRESET.name}/download")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "hub_unreachable")
    assert str(os.getcwd()) not in refused.text
    for method in ("POST", "DELETE"):
        assert client.request(method, "/v1/models/pocket/download").json()["here"]
        assert client.request(method, "/v1/models/Some%2FModel/download").status_code == 404
        assert client.request(method, "/v1/models/unknown/download").status_code == 404
    unpublished = next((one for one in presets().values() if one.hub is None), None)
    if unpublished is not None:
        refused = client.post(f"/v1/models/{unpublished.name}/download")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_downloadable")


def test_a_preset_in_the_folders_of_models_is_here(client, tmp_path):
    folder = tmp_path / "models" / PRESET.hub.rpartition("/")[2]
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    assert state(client)["here"] and "download" not in state(client)
    catalogue = Catalogue(ModelFiles([tmp_path / "models"]))
    assert catalogue.model(PRESET.name) == f"{PRESET.name}={folder.resolve()}"
    shutil.rmtree(folder)
    assert not state(client)["here"]


def test_the_downloader_ends_with_its_server(hub):
    hub.held = {BIG}
    words = [sys.executable, "-m", "longtake.server.downloads.process", hub.repo, COMMIT]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: BIG in hub.sent)
    process.communicate(timeout=60)  # closes its input, as the end of a server does
    assert process.returncode != 0


@pytest.mark.long
def test_a_killed_download_says_so_and_is_continued(hub, history):
    downloads = Downloads(history.publish, poll=0.02)
    client = SimpleNamespace(
        get=lambda path: SimpleNamespace(json=lambda: downloads.facts(PRESET)),
        post=lambda path: SimpleNamespace(
            status_code=200, text="", json=lambda: downloads.start(PRESET) or downloads.facts(PRESET)
        ),
    )
    half_done(client, hub)
    os.kill(downloads.known[PRESET.name].process.pid, signal.SIGKILL)
    assert "the download ended with" in ended(client)["download"]["error"]
    hub.release()
    hub.sent.clear()
    downloads.start(PRESET)
    assert ended(client)["here"] and hub.sent == [BIG]
