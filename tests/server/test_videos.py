"""The routes of `/v1/videos` on a real socket, with a queue whose worker is a stand-in without a model."""

import errno
import json
import os
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import pytest

from longtake.runs import record
from longtake.runs.files import durable
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.states import JobError
from longtake.server.app import create_app
from tests.runs.jobs.queues import FAKE, until
from tests.runs.toy_runs import clock
from tests.server.client import call
from tests.server.serving import served


@pytest.fixture
def queue(tmp_path):
    with JobQueue(tmp_path, most_queued=6) as made:
        yield made


@pytest.fixture
def videos(queue):
    """The address of the videos of a server."""
    with served(create_app(queue)) as address:
        yield f"{address}/v1/videos"


def created(videos, **fields):
    """Ask for a video; return its JSON."""
    status, video = call("POST", videos, {"prompt": "3 frames", **fields})
    assert status == 200, video
    return video


def test_a_video_is_what_the_openai_package_expects(videos):
    video = created(videos, seconds="4", size="64x32", model="pocket")
    assert video.items() >= {
        "object": "video", "model": "pocket", "status": "queued", "progress": 0, "prompt": "3 frames", "seconds": "4",
        "size": "64x32", "error": None, "remixed_from_video_id": None,
    }.items()  # fmt: skip
    assert isinstance(video["created_at"], int)
    assert call("GET", f"{videos}/{video['id']}") == (200, video)


def test_a_video_is_generated_stopped_and_resumed(videos, queue):
    queue.start(["cpu"], FAKE)
    video = created(videos, prompt="400 slow")
    now = lambda: call("GET", f"{videos}/{video['id']}")[1]
    until(lambda: now().get("segments_done", 0) > 1)
    assert now()["status"] == "in_progress"
    assert call("POST", f"{videos}/{video['id']}/stop")[1]["state"] in ("stopping", "completed")
    until(lambda: now()["status"] == "completed")
    assert now()["stopped"] and float(now()["seconds"]) < 400
    assert call("POST", f"{videos}/{video['id']}/resume")[1]["stopped"] is False
    until(lambda: now()["status"] == "in_progress")
    assert call("DELETE", f"{videos}/{video['id']}") == (
        200,
        {"id": video["id"], "object": "video.deleted", "deleted": True},
    )
    assert call("DELETE", f"{videos}/{video['id']}")[0] == 404


def test_a_failed_video_says_why(videos, queue):
    video = created(videos)
    queue.claim(0)
    queue.ended(video["id"], JobError("invalid_request", "size 65x64 is not whole latents", "size"))
    failed = call("GET", f"{videos}/{video['id']}")[1]
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "invalid_request", "message": "size 65x64 is not whole latents", "param": "size"}


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        (dict(seconds="two"), 400, "invalid_value", "seconds"),
        (dict(seconds=-1, num_frames=3), 400, "invalid_value", "seconds"),
        (dict(fps="fast"), 400, "invalid_value", "fps"),
        (dict(size="wide"), 400, "invalid_value", "size"),
        (dict(size="65x64"), 400, "invalid_value", "size"),
        (dict(strategy="sliding", window=18), 400, "invalid_value", "window"),
        (dict(n=0), 400, "invalid_value", "n"),
        (dict(n="2.5"), 400, "invalid_value", "n"),
        (dict(scenes="[1"), 400, "invalid_value", "scenes"),
        (dict(sekonds=3), 400, "invalid_value", "sekonds"),
        (dict(image="/etc/passwd"), 400, "invalid_value", "image"),
        (dict(input_reference="/etc/passwd"), 400, "invalid_value", "input_reference"),
        (dict(loras=["../../x.safetensors"]), 404, "lora_not_found", "loras"),
        (dict(model="/root/model"), 404, "model_not_found", "model"),
        (dict(model="pokcet"), 404, "model_not_found", "model"),
        (dict(prompt=None), 400, "invalid_value", None),
    ],
)
def test_a_wrong_value_is_named_and_never_changed(videos, queue, fields, status, code, param):
    found, answer = call("POST", videos, {"prompt": "x", **fields})
    assert (found, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)
    assert not queue.page().jobs and "--" not in answer["error"]["message"]


def test_texts_become_the_numbers_and_switches_that_options_have(videos, queue):
    video = created(videos, seed="7", steps="3", fp8="true", overlap="9", strategy="sliding", guidance_scale="2.5")
    request = queue.get(video["id"]).request
    assert request.load == {"fp8": True}
    assert request.options == {"seed": 7, "num_inference_steps": 3, "overlap": 9, "guidance_scale": 2.5}


def test_variations_have_seeds_that_follow_each_other(videos, queue):
    video = created(videos, n="3", seed=5)
    assert [queue.get(id).request.seed for id in video["variations"]] == [5, 6, 7]


def test_lists_end_where_they_should(videos):
    ids = [created(videos)["id"] for _ in range(3)]
    assert call("GET", f"{videos}?limit=2")[1]["data"][0]["id"] == ids[2]
    page = call("GET", f"{videos}?limit=2&order=asc")[1]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[0], ids[1], True)
    assert [one["id"] for one in call("GET", f"{videos}?order=asc&after={ids[1]}")[1]["data"]] == ids[2:]
    assert call("GET", f"{videos}?after=video_there_is_none")[0] == 404
    for wrong in ("limit=0", "limit=101", "limit=-1", "limit=٣", "order=up"):
        assert call("GET", f"{videos}?{quote(wrong, safe='=')}")[0] == 400


def test_a_full_disk_is_503_and_not_worth_a_retry(videos, queue, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "write_all", full)
    status, answer = call("POST", videos, {"prompt": "x"})
    assert (status, answer["error"]["code"]) == (503, "disk_full") and not queue.page().jobs


def test_the_script_of_a_run_is_edited_where_it_is_not_generated(tmp_path, videos):
    video = clock()
    script = {"scenes": [{"prompt": "a", "seconds": None, "cut": False}], "starts": [0], "frames": 127}
    about = dict(script=script, strategy="sliding", strategy_options={})
    with closing(record(video.rollout(), video.manifest(**about), tmp_path / "a run")) as events:
        while type(next(events)).__name__ != "SegmentWritten":
            pass
        until(lambda: call("GET", videos)[1]["data"] != [], 10)
        id = call("GET", videos)[1]["data"][0]["id"]
        earliest = call("GET", f"{videos}/{id}/script")[1]["earliest"]
        assert earliest > 0
        status, answer = call("PATCH", f"{videos}/{id}/script", {"op": "replace", "prompt": "b", "at": "0"})
        assert (status, answer["error"]["code"]) == (409, "too_late")
        assert f"{earliest:.2f}" in answer["error"]["message"]
        edit = {"op": "insert", "prompt": "b", "seconds": 1}
        assert call("PATCH", f"{videos}/{id}/script", {"edits": [edit]})[1]["pending"][0]["prompt"] == "b"
        for _ in events:
            pass
    assert "b" in [scene["prompt"] for scene in call("GET", f"{videos}/{id}/script")[1]["scenes"]]


def test_a_preview_is_the_last_one_that_was_drawn(videos, queue):
    id = created(videos)["id"]
    status, answer = call("GET", f"{videos}/{id}/preview")
    assert (status, answer["error"]["code"]) == (409, "no_preview_yet")
    (queue.get(id).folder / "job" / "preview.png").write_bytes(b"a png file")
    with urlopen(f"{videos}/{id}/preview") as answer:
        assert answer.read() == b"a png file" and answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "no-store"
    assert call("GET", f"{videos}/video_none_such/preview")[0] == 404


def test_a_full_queue_is_429(videos):
    created(videos, n=6)
    status, answer = call("POST", videos, {"prompt": "x"})
    assert (status, answer["error"]["code"]) == (429, "queue_full")


def test_idempotency_keys_and_retries_of_the_client(videos):
    ask = lambda body, **headers: call("POST", videos, {"prompt": "x", **body}, **headers)
    first = ask({}, Idempotency_Key='"a"')[1]
    assert ask({}, Idempotency_Key="a")[1]["id"] == first["id"]
    assert ask({"seed": 1}, Idempotency_Key="a")[0] == 422
    assert ask({}, Idempotency_Key="a", Authorization="Bearer other")[1]["id"] != first["id"]
    assert ask({}, Idempotency_Key="a b")[0] == 400
    once = ask({"seconds": "4"}, X_Stainless_Retry_Count="0")[1]
    assert ask({"seconds": 4}, X_Stainless_Retry_Count="1")[1]["id"] == once["id"]
    assert ask({"seconds": 5}, X_Stainless_Retry_Count="1")[1]["id"] != once["id"]


def test_a_key_is_in_use_while_its_request_arrives(videos, queue):
    body = b'{"prompt": "x"}'
    connection = HTTPConnection(urlsplit(videos).netloc)
    connection.putrequest("POST", "/v1/videos")
    for name, value in (("Content-Type", "application/json"), ("Content-Length", len(body)), ("Idempotency-Key", "k")):
        connection.putheader(name, str(value))
    connection.endheaders(body[:5])
    ask = lambda: call("POST", videos, {"prompt": "x"}, Idempotency_Key="k")
    until(lambda: (answer := ask())[0] == 409 and answer[1]["error"]["code"] == "idempotency_key_in_use")
    assert len(queue.page().jobs) <= 1
    connection.send(body[5:])
    first = json.loads(connection.getresponse().read())
    connection.close()
    assert ask()[1]["id"] == first["id"] == queue.page().jobs[0].id and len(queue.page().jobs) == 1


def test_a_remix_keeps_all_but_what_it_is_given(videos, queue):
    source = created(videos, seed=5, seconds=4, size="64x64")
    status, remix = call("POST", f"{videos}/{source['id']}/remix", {"prompt": "9 frames"})
    assert status == 200 and remix["remixed_from_video_id"] == source["id"]
    assert (remix["prompt"], remix["seconds"], remix["seed"]) == ("9 frames", "4", 5)
    assert call("POST", f"{videos}/video_none_such/remix", {"prompt": "x"})[0] == 404


def test_an_extension_says_the_length_of_the_whole(videos, queue):
    source = created(videos, seconds=4, seed=5)["id"]
    ask = lambda video, **more: call("POST", f"{videos}/extensions", {"prompt": "x", "video": video, **more})
    assert ask({"id": source})[1]["error"]["code"] == "video_queued"
    queue.claim(0)
    queue.began(source, {"model": "pocket", "fps": 24.0, "seconds": 4.0, "frames": 96, "size": "64x64", "seed": 5})
    (queue.get(source).folder / "video.mp4").write_bytes(b"an mp4 file")
    queue.ended(source, None)
    status, longer = ask({"id": source}, seconds="2")
    assert status == 200 and longer["seconds"] == "6" and longer["extended_from_video_id"] == source
    job = queue.get(longer["id"])
    assert (job.folder / "inputs" / "video.mp4").read_bytes() == b"an mp4 file" and job.request.seed == 6
    assert ask(None)[1]["error"]["param"] == "video"
    assert ask({"id": "../../etc"})[0] == 404


def test_the_script_of_a_video_that_waits_is_shown_and_not_edited(videos):
    id = created(videos, prompt=None, scenes=["a storm", ["calm", 5]])["id"]
    status, script = call("GET", f"{videos}/{id}/script")
    assert status == 200 and [scene["prompt"] for scene in script["scenes"]] == ["a storm", "calm"]
    status, answer = call("PATCH", f"{videos}/{id}/script", {"op": "add", "prompt": "rain"})
    assert (status, answer["error"]["code"]) == (409, "video_queued")
    for wrong in ({"op": "remove"}, {"op": "add"}, {"op": "add", "prompt": "x", "at": 3}, {"edits": []}):
        assert call("PATCH", f"{videos}/{id}/script", wrong)[0] == 400


def test_the_package_and_its_help_import_no_web_server():
    code = (
        "import sys, longtake, longtake.runs.jobs.queue\n"
        "from longtake.cli import run\n"
        "assert run(['--help']) == 0\n"
        "assert not {'starlette', 'uvicorn', 'python_multipart', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("value", [__file__, [__file__], "/no/such/file", "data:,", 0])
@pytest.mark.parametrize("name", ["anchor_image", "step_cache_calibration"])
@pytest.mark.parametrize("route", ["", "/extensions", "/ID/remix"])
def test_no_option_names_a_file_of_the_server(queue, videos, route, name, value):
    id = created(videos)["id"]
    fields = {"prompt": "a", "step_cache": 0.2, "video": {"id": id}, name: value}
    if not route:
        del fields["video"]
    status, answer = call("POST", videos + route.replace("ID", id), fields)
    assert (status, answer["error"]["param"]) == (400, name)
    assert __file__ not in json.dumps(answer) and queue.counts() == {"queued": 1}
