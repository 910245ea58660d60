"""What files say about how they were made: read in a process with limits, and answered without paths or failures."""

import json

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

import longtake
from longtake.media.finished.save_video import save_video
from longtake.media.metadata import COMMENT, read_tags
from longtake.server.errors import ApiError, on_api_error
from longtake.server.requests.body import Bodies
from longtake.server.requests.uploads.check import FileCheck
from longtake.server.requests.uploads.limits import MediaLimits
from longtake.server.requests.uploads.store import UploadStore
from longtake.server.routes.inspect import Inspections

FRAMES = [np.full((16, 16, 3), shade, np.uint8) for shade in (0, 90, 200)]


@pytest.fixture
def client(tmp_path):
    checks = FileCheck(MediaLimits(text=1 << 16))
    routes = Inspections(Bodies(UploadStore(tmp_path / "uploads"), checks)).routes()
    return TestClient(Starlette(routes=routes, exception_handlers={ApiError: on_api_error}))


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What a video of the toy model carries."""
    path = tmp_path_factory.mktemp("made") / "x.mp4"
    longtake.load("clock")("a red ball", num_frames=9, steps=1, seed=3).save(path)
    return json.loads(read_tags(path)[COMMENT])


@pytest.fixture
def asked(client, tmp_path):
    """Return the answer about a video with a comment."""

    def ask(comment):
        path = save_video(tmp_path / "x.mp4", iter(FRAMES), 24, comment=comment)
        answer = client.post("/v1/inspect", files={"file": path.read_bytes()})
        return answer.status_code, answer.json()

    return ask


def test_the_settings_of_a_video_come_back(asked, facts):
    status, found = asked(json.dumps(facts))
    assert status == 200 and found["settings"] == facts and (found["made_by"], found["frames"]) == ("longtake", 9)


CHANGES = {
    "a list for a table": {"video": [1]},
    "no script": {"script": []},
    "a text for a table": {"sampling": "x"},
    "a path for a model": {"model": {"name": 5}},
    "nothing for a table": {"video": None},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_settings_that_cannot_be_used_are_named_without_a_path(asked, facts, change):
    status, found = asked(json.dumps({**facts, **change}))
    assert status == 422 and found["error"]["code"] == "unusable_settings", found
    assert "longtake-" not in found["error"]["message"]


def test_half_a_character_becomes_a_question_mark(asked, facts):
    status, found = asked(json.dumps({**facts, "machine": {"name": "\udfff"}}))
    assert status == 200 and found["settings"]["machine"] == {"name": "?"}


@pytest.mark.parametrize("fps", ["1e999", "nan", "1/0", "x", None, [1]])
def test_a_frame_rate_that_is_none_is_left_out(asked, facts, fps):
    status, found = asked(json.dumps({**facts, "video": {**facts["video"], "fps": fps}}))
    assert (status == 200 and found["fps"] is None) or (status == 422 and found["error"]["type"])


@pytest.mark.parametrize("text", ["", "a cat", '{"a":' * 5000, "[" * 5000, '{"longtake":{}}', '{"longtake":1}'])
def test_other_texts_are_no_settings(asked, text):
    assert asked(text)[0] == 422


def test_more_text_than_the_limit_is_refused(asked):
    status, found = asked("x" * (1 << 16) + "y")
    assert (status, found["error"]["code"]) == (400, "invalid_file") and "characters" in found["error"]["message"]
