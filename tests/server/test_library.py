"""The routes of the library: stars, order, trash, settings, script files, frames and excerpts."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from longtake.media.video_reader import timed_frames
from longtake.runs.jobs.queue import JobQueue
from longtake.server.errors import ApiError, on_api_error
from longtake.server.routes.excerpts import Excerpts
from longtake.server.routes.library import Library
from longtake.server.routes.script_files import script_file_routes
from tests.runs.jobs.queues import asked


@pytest.fixture
def queue(tmp_path):
    with JobQueue(tmp_path) as made:
        yield made


@pytest.fixture
def client(queue):
    routes = [*Library(queue).routes(), *script_file_routes()]
    return TestClient(Starlette(routes=routes, exception_handlers={ApiError: on_api_error}))


def test_stars_and_places_are_in_the_object_of_a_video(queue, client):
    first, second = (queue.submit(asked())[0].id for _ in range(2))
    assert client.post(f"/v1/videos/{second}/star", json={"starred": True}).json()["starred"] is True
    before = queue.get(first).status.position
    assert client.post(f"/v1/videos/{second}/move", json={"place": 0}).json()["position"] == before


@pytest.mark.parametrize(
    "action, body", [("move", {"place": -1}), ("move", {}), ("move", {"place": True}), ("star", {"starred": 1})]
)
def test_what_is_wrong_is_named(queue, client, action, body):
    answer = client.post(f"/v1/videos/{queue.submit(asked())[0].id}/{action}", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] in ("place", "starred")


def test_a_deleted_video_is_restored(queue, client):
    id = queue.submit(asked())[0].id
    queue.delete(id)
    assert client.post(f"/v1/videos/{id}/restore").json()["state"] == "failed"
    assert client.post(f"/v1/videos/{id}/restore").status_code == 404


def test_the_settings_of_a_video_that_waits_are_those_of_its_request(queue, client):
    id = queue.submit(asked("a", seed=7, seconds=2, strategy="relay"))[0].id
    found = client.get(f"/v1/videos/{id}/settings").json()
    assert found["settings"] == {"model": "pocket", "prompt": "a", "strategy": "relay", "seed": 7, "seconds": 2}


def test_a_script_file_is_read_as_the_command_line_reads_it(client):
    text = '[[scene]]\nprompt = "a"\nseconds = 2\n[[scene]]\nprompt = "b"\ncut = "anchor"\nlora = { "x.safetensors" = 0.5 }\n'
    found = client.post("/v1/scripts", json={"name": "story.toml", "text": text}).json()
    assert [(one["prompt"], one["seconds"], one["cut"], one["lora"]) for one in found["scenes"]] == [
        ("a", 2, False, []), ("b", None, "anchor", [["x.safetensors", 0.5]]),
    ]  # fmt: skip
    lines = client.post("/v1/scripts", json={"name": "prompts.txt", "text": "a\n# no\n\nb\n"}).json()
    assert [one["prompt"] for one in lines["scenes"]] == ["a", "b"]


@pytest.mark.parametrize(
    "name, text", [("a.toml", "scene = 1"), ("a.toml", "[["), ("a.txt", ""), ("a.json", "{}"), (3, "a"), ("a.txt", 3)]
)
def test_a_wrong_script_file_is_refused_without_a_path(client, name, text):
    answer = client.post("/v1/scripts", json={"name": name, "text": text})
    assert answer.status_code == 400 and "/" not in answer.json()["error"]["message"]


def test_frames_and_excerpts_are_those_of_the_video(run):
    run.finish()
    run.app()
    client = TestClient(
        Starlette(routes=Excerpts(run.delivery.feeds).routes(), exception_handlers={ApiError: on_api_error})
    )
    frames = [frame.numpy() for _, frame in timed_frames(run.folder / "video.mp4")]
    small = client.get("/v1/videos/video_1/frames/30")
    assert "immutable" in small.headers["cache-control"]
    assert np.abs(np.asarray(Image.open(io.BytesIO(small.content))).astype(int) - frames[30]).mean() < 12
    assert client.get(f"/v1/videos/video_1/frames/{len(frames)}").status_code == 404
    zipped = client.get("/v1/videos/video_1/range?from=20&to=50&format=png").content
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        assert archive.namelist()[0] == "frame-000020.png" and len(archive.namelist()) == 30
        assert np.array_equal(np.asarray(Image.open(archive.open("frame-000049.png"))), frames[49])
    mp4 = client.get("/v1/videos/video_1/range?from=20&to=50&format=mp4")
    assert "attachment" in mp4.headers["content-disposition"] and len(list(timed_frames(mp4.content))) == 30
    assert client.get("/v1/videos/video_1/range?from=0&to=10&format=gif").content[:3] == b"GIF"


@pytest.mark.parametrize("query", ["from=5&to=5", "from=0&to=9999", "from=-1&to=3", "from=x", "format=avi"])
def test_an_excerpt_that_there_is_not_is_refused(run, query):
    run.grow(1)
    run.app()
    client = TestClient(
        Starlette(routes=Excerpts(run.delivery.feeds).routes(), exception_handlers={ApiError: on_api_error})
    )
    assert client.get(f"/v1/videos/video_1/range?{query}").status_code == 400


@pytest.mark.parametrize("id", ["a" * 5000, "..", "%2e%2e", "..%2f..", "%00", "%ff", "video_%0aaaaaaaa"])
def test_what_is_no_id_is_not_looked_for_in_the_trash(client, id):
    assert client.post(f"/v1/videos/{id}/restore").status_code in (404, 405)


def test_a_script_of_half_a_character_is_refused(client):
    raw = b'{"name": "a.toml", "text": "\\ud800"}'
    answer = client.post("/v1/scripts", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_json"
