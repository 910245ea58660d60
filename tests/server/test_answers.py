"""Answers are always JSON, and no path of the server is in them."""

import json

import pytest

from longtake.runs import record
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.states import JobError
from longtake.server.answers import without_folders
from longtake.server.app import create_app
from tests.runs.jobs.queues import asked
from tests.runs.toy_runs import clock
from tests.server.client import call
from tests.server.serving import served

MESSAGES = {
    "/srv/models/a b/x.safetensors is damaged": "a b/x.safetensors is damaged",
    "it states '/etc/passwd' as the file": "it states 'passwd' as the file",
    "'../../x' and \"../y\" stay": "'../../x' and \"../y\" stay",
    "C:\\Users\\me\\x.gguf, ~/models/y.gguf": "x.gguf, y.gguf",
    "(/tmp/a/b): 4/5 s, and/or https://host/a/b": "(b): 4/5 s, and/or https://host/a/b",
}


@pytest.mark.parametrize(("message", "shown"), MESSAGES.items())
def test_messages_name_files_and_no_folders(message, shown):
    assert without_folders(message) == shown


def test_the_error_of_a_job_names_no_folder(tmp_path):
    with JobQueue(tmp_path) as queue, served(create_app(queue)) as address:
        id = queue.submit(asked())[0].id
        assert queue.claim(0).id == id
        queue.ended(id, JobError("run_failed", f"{tmp_path}/models/x.gguf is damaged"))
        assert queue.get(id).status.error.message.startswith(str(tmp_path))
        status, video = call("GET", f"{address}/v1/videos/{id}")
        assert status == 200 and video["error"]["message"] == "x.gguf is damaged"


CHANGES = {
    "half a character": {"scenes": [{"prompt": "a \ud800", "seconds": None, "cut": False}]},
    "no number": {"frames": float("nan")},
    "too large a number": {"frames": float("inf")},
    "a number of many digits": {"frames": 10**400},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_strange_run_in_the_folder_does_not_take_the_list_away(tmp_path, change):
    video = clock()
    script = {"scenes": [{"prompt": "a", "seconds": None, "cut": False}], "starts": [0], "frames": 127}
    manifest = video.manifest(script=script, strategy="sliding", strategy_options={"window": 33})
    for _ in record(video.rollout(), manifest, tmp_path / "run"):
        pass
    path = tmp_path / "run" / "run.json"
    facts = json.loads(path.read_text())
    facts["settings"]["script"].update(change)
    facts["video"].update({name: value for name, value in change.items() if name == "frames"})
    path.write_text(json.dumps(facts))
    with JobQueue(tmp_path) as queue, served(create_app(queue)) as address:
        job = queue.submit(asked())[0]
        status, found = call("GET", f"{address}/v1/videos")
        assert status == 200 and job.id in [one["id"] for one in found["data"]]
        for one in found["data"]:
            for part in ("", "/settings", "/script"):
                assert call("GET", f"{address}/v1/videos/{one['id']}{part}")[0] in (200, 409)
