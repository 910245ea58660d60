"""The released `openai` package against a server with a real worker, over a real socket."""

import base64
import io
import json
import time
import warnings

import openai
import pytest
from PIL import Image

from longtake.media.video_reader import timed_frames
from longtake.runs.jobs.queue import JobQueue
from longtake.server.app import create_app, guarded
from longtake.server.security import Access
from tests.server.serving import served

TOKEN = "a-token-of-a-test-0123456789"


@pytest.fixture(autouse=True)
def deprecated():
    """The package marks these methods as deprecated; they work."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with JobQueue(tmp_path_factory.mktemp("videos")) as queue:
        queue.start(["cpu"])
        with served(guarded(create_app(queue), Access(TOKEN))) as address:
            yield address


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0, timeout=120) as client:
        yield client


def made(client, prompt="a red ball", seconds="1", **fields):
    """Ask for a video of the toy clock, which takes a moment."""
    return client.videos.create(prompt=prompt, model="clock", seconds=seconds, size="64x32", extra_body=fields or None)


@pytest.fixture(scope="module")
def video(client):
    """A finished video of one second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return client.videos.create_and_poll(prompt="a red ball", model="clock", seconds="1", poll_interval_ms=100)


def test_create_and_poll(video):
    assert (video.object, video.status, video.model, video.seconds, video.progress) == (
        "video",
        "completed",
        "clock",
        "1",
        100,
    )
    assert video.prompt == "a red ball" and video.error is None and video.completed_at >= video.created_at
    assert video.model_extra["fps"] == 24 and video.model_extra["num_frames"] == 24


def test_retrieve(client, video):
    assert client.videos.retrieve(video.id) == video
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve("video_1234/../../x")
    with pytest.raises(openai.NotFoundError) as error:
        client.videos.retrieve("video_unknown_id")
    assert (error.value.type, error.value.code) == ("not_found_error", "video_not_found")


def test_download_content(client, video):
    content = client.videos.download_content(video.id)
    data = content.read()
    assert content.response.headers["content-type"].startswith("video/mp4") and len(list(timed_frames(data))) == 24
    assert client.videos.download_content(video.id, variant="thumbnail").read()[:2] == b"\xff\xd8"
    assert client.videos.download_content(video.id, variant="spritesheet").read()[:4] == b"\x89PNG"


def test_list_iterates_over_all_pages(client, video):
    for _ in range(4):
        made(client)
    pages = client.videos.list(limit=2, order="asc")
    ids = [each.id for each in pages]
    assert len(ids) == len(set(ids)) >= 5 and ids[0] == video.id
    assert [each.id for each in client.videos.list(limit=3)] == ids[::-1]
    assert client.videos.list(after=ids[-1], order="asc").data == []
    with pytest.raises(openai.NotFoundError):
        client.videos.list(after="video_unknown_id")


def test_delete_sends_no_body(client):
    id = made(client).id
    deleted = client.videos.delete(id)
    assert (deleted.id, deleted.deleted, deleted.object) == (id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.delete(id)


def test_remix(client, video):
    remixed = client.videos.remix(video.id, prompt="a blue ball")
    assert (remixed.prompt, remixed.remixed_from_video_id, remixed.seconds) == ("a blue ball", video.id, "1")


def extend_with_extra_body(client, id):
    body = {"video": {"id": id}, "model": "clock"}
    return client.videos.extend(prompt="on", seconds="1", video=openai.omit, extra_body=body)


def extend_with_a_part(client, id):
    return client.videos.extend(
        prompt="on", seconds="1", video=(None, json.dumps({"id": id}).encode(), "application/json")
    )


def extend_with_json(client, id):
    body = {"prompt": "on", "seconds": "1", "video": {"id": id}}
    return client.post("/videos/extensions", body=body, cast_to=openai.types.Video)


@pytest.mark.parametrize("extend", [extend_with_extra_body, extend_with_a_part, extend_with_json])
def test_extend_in_the_forms_that_can_be_sent(client, video, extend):
    """`seconds` asks for the new part, and is the stitched total in the answer."""
    extended = extend(client, video.id)
    assert (extended.seconds, extended.model_extra["extended_from_video_id"]) == ("2", video.id)
    if extend is extend_with_json:
        done = client.videos.poll(extended.id, poll_interval_ms=100)
        assert done.status == "completed", done.error
        assert len(list(timed_frames(client.videos.download_content(done.id).read()))) == 48


def test_extend_a_file(client, video):
    data = client.videos.download_content(video.id).read()
    extended = client.videos.extend(prompt="on", seconds="1", video=data, extra_body={"model": "clock"})
    done = client.videos.poll(extended.id, poll_interval_ms=100)
    assert done.status == "completed", done.error
    assert float(done.seconds) == 2


def test_values_of_a_form_have_their_types(client):
    """Forms hold texts: numbers, switches, lists and nested values are put together again."""
    asked = made(client, seed=7, fps=12, num_inference_steps=2, endless=False, scenes=None)
    assert (asked.model_extra["seed"], asked.model_extra["fps"]) == (7, 12)
    scenes = client.videos.create(
        prompt=openai.omit, model="clock", extra_body={"scenes": ["a red ball", "a blue ball"], "seconds": 2}
    )
    assert scenes.prompt == "a red ball\na blue ball"
    structured = [{"prompt": "a red ball", "seconds": 1}, {"prompt": "a blue ball", "cut": True}]
    for sent in (json.dumps(structured), structured):
        try:
            video = client.videos.create(prompt=openai.omit, model="clock", extra_body={"scenes": sent})
            assert video.prompt == "a red ball\na blue ball"
        except openai.BadRequestError as error:  # other keys in each object: the form has lost which belongs where
            assert sent is structured and (error.code, error.param) == ("torn_list", "scenes")
    as_json = client.videos.create(
        prompt=openai.omit,
        model="clock",
        extra_headers={"Content-Type": "application/json"},
        extra_body={"scenes": structured},
    )
    assert as_json.prompt == "a red ball\na blue ball"


def picture():
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    return out.getvalue()


def test_reference_images(client):
    url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    for fields in ({"input_reference": picture()}, {"extra_body": {"input_reference": {"image_url": url}}}):
        video = client.videos.create(prompt="a red ball", model="pocket-i2v", seconds="1", **fields)
        client.videos.delete(video.id)
    with pytest.raises(openai.BadRequestError) as error:
        client.videos.create(prompt="a", extra_body={"input_reference": {"image_url": "http://127.0.0.1/a.png"}})
    assert error.value.param == "input_reference"


def test_errors_have_type_code_and_param(client, address):
    with pytest.raises(openai.BadRequestError) as error:
        made(client, num_inference_steps="many")
    assert (error.value.type, error.value.param) == ("invalid_request_error", "num_inference_steps")
    with pytest.raises(openai.BadRequestError) as error:
        made(client, no_such_option=1)
    assert error.value.param == "no_such_option"
    with pytest.raises(openai.NotFoundError) as error:
        client.videos.create(prompt="a", model="sora-2")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong").videos.list()


def test_conflicts_are_not_repeated(client, address):
    """The package repeats 409 by itself, and with it the request: x-should-retry stops that."""
    video = made(client, seconds="600")
    with openai.OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=2) as eager:
        started = time.monotonic()
        with pytest.raises(openai.ConflictError):
            eager.videos.download_content(video.id)
        assert time.monotonic() - started < 0.5  # its first pause
    client.videos.delete(video.id)


def test_a_retry_is_the_same_request(client):
    """A POST whose answer was lost is sent again without a key, in another boundary."""
    again = {"x-stainless-retry-count": "1"}
    first = client.videos.create(prompt="once", model="clock", seconds="1")
    second = client.videos.create(prompt="once", model="clock", seconds="1", extra_headers=again)
    assert first.id == second.id
    assert client.videos.create(prompt="once", model="clock", seconds="1").id != first.id
    key = {"Idempotency-Key": "key-1"}
    keyed = [client.videos.create(prompt="k", model="clock", seconds="1", extra_headers=key).id for _ in range(2)]
    assert keyed[0] == keyed[1]
    with pytest.raises(openai.UnprocessableEntityError):
        client.videos.create(prompt="other", model="clock", seconds="1", extra_headers=key)
