"""Every curl line of docs/guides/http-api.md, against a server with a real worker; and every route is on that page."""

import json
import re
import shutil
import subprocess
import time

import httpx2 as httpx
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from longtake.runs.jobs.queue import JobQueue
from longtake.server.app import create_app, guarded
from longtake.server.security import Access
from tests.docs.blocks import ROOT
from tests.server.serving import served

PAGE = (ROOT / "docs" / "guides" / "http-api.md").read_text(encoding="utf-8")
LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
    if line.startswith("curl ")
]
TIMED_OUT = 28  # of curl, whose --max-time ends a stream that goes on


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    with JobQueue(tmp_path_factory.mktemp("videos")) as queue:
        yield queue


@pytest.fixture(scope="module")
def server(queue):
    with served(guarded(create_app(queue), Access())) as address:
        yield address


def made(address, **fields):
    return httpx.post(f"{address}/v1/videos", json={"model": "clock", "prompt": "a red ball", **fields}).json()["id"]


def until(address, id, condition):
    end = time.monotonic() + 60
    while not condition(httpx.get(f"{address}/v1/videos/{id}").json()):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def names(queue, server):
    """What the variables of the page stand for: a finished video, one that is generated, and one that waits."""
    queue.start(["cpu"])
    finished = made(server, seconds=2)
    until(server, finished, lambda video: video["status"] == "completed")
    running = made(server, model="pocket", endless=True)
    preview = f"{server}/v1/videos/{running}/preview"
    until(server, running, lambda video: video.get("segments_done", 0) > 0 and httpx.get(preview).status_code == 200)
    return {"URL": server, "ID": finished, "RUNNING": running, "WAITING": made(server, seconds=9)}


def test_every_route_has_a_line(server):
    shown = re.sub(r"\$(ID|RUNNING|WAITING)|pocket(?=\n)", "{id}", "\n".join(LINES).replace("$LORA", "{id}"))
    for path, methods in httpx.get(f"{server}/openapi.json").json()["paths"].items():
        pattern = re.escape(path).replace(r"\{number\}", r"\d+").replace(r"\{name\}", r"[\w.]+")
        pattern = pattern.replace(r"\{id\}", r"(\{id\}|[\w-]+)")
        assert re.search(rf"\$URL{pattern}(?=[\s?\"]|$)", shown, re.M), path
        if "delete" in methods:
            assert re.search(rf"-X DELETE \$URL{pattern}", shown), path


@pytest.mark.long
@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs curl and bash")
def test_every_line_runs(names, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    tensors = {"blocks.0.attn.lora_A.weight": torch.zeros(2, 4), "blocks.0.attn.lora_B.weight": torch.zeros(4, 2)}
    save_file(tensors, tmp_path / "style.safetensors")
    assert len(LINES) > 35
    for line in LINES:
        head = "".join(f"{name}={value}\n" for name, value in names.items())
        command = head + line.replace("curl ", "curl -sS --fail-with-body ", 1)
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=60)
        assert done.returncode == (TIMED_OUT if "--max-time" in line else 0), (
            line,
            done.stdout[:500],
            done.stderr[:500],
        )
        if "/v1/loras -F" in line:
            names["LORA"] = json.loads(done.stdout)["id"]
        if line.endswith("/stop"):
            until(names["URL"], names["RUNNING"], lambda video: video["status"] == "completed")
    assert {path.name for path in tmp_path.iterdir()} >= {
        "video.mp4",
        "first.jpg",
        "sheet.png",
        "later.mp4",
        "excerpt.gif",
    }
