"""Bodies: JSON and forms with files, and what they may not hold."""

import base64
import io

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from longtake.server.errors import ApiError, on_api_error, on_http_error
from longtake.server.requests.body import Bodies
from longtake.server.requests.uploads.store import UploadStore


@pytest.fixture
def client(tmp_path):
    """A server that answers with what it read."""
    bodies = Bodies(UploadStore(tmp_path / "uploads"))

    async def show(request):
        async with bodies.of(request) as body:
            files = {name: [path.name, path.stat().st_size] for name, path in body.files.items()}
            return JSONResponse({"values": body.values, "files": files, "digests": body.digests})

    handlers = {ApiError: on_api_error, HTTPException: on_http_error}
    client = TestClient(Starlette(routes=[Route("/", show, methods=["POST"])], exception_handlers=handlers))
    client.uploads = bodies.uploads
    return client


def picture(format="PNG"):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, format)
    return out.getvalue()


def data_url(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


def error(answer):
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]


def test_json_and_forms_hold_the_same(client):
    json = client.post("/", json={"prompt": "a", "scenes": ["b", "c"]}).json()["values"]
    form = [("prompt", (None, "a")), ("scenes[]", (None, "b")), ("scenes[]", (None, "c"))]
    assert client.post("/", files=form).json()["values"] == json


@pytest.mark.parametrize("raw", [b"[]", b"1", b"{", b'{"a": 1} x', b"\xff", b"[" * 100_000, b'{"a": ' * 100_000])
def test_a_body_that_is_no_object(client, raw):
    assert error(client.post("/", content=raw, headers={"content-type": "application/json"}))[:2] == (
        400,
        "invalid_json",
    )


def test_an_empty_body_has_no_values(client):
    assert client.post("/", headers={"content-type": "application/json"}).json()["values"] == {}


@pytest.mark.parametrize("name", ["upload", "../../etc/passwd", "..\\..\\x.exe", "a\0b", "<script>.svg", "x" * 300])
def test_file_names_and_types_are_dropped(client, name):
    """sglang#17267: `../` in the name of an uploaded file led out of the folder."""
    answer = client.post("/", files={"input_reference": (name, picture(), "text/html")}).json()
    assert answer["files"] == {"image": ["image.png", len(picture())]} and len(answer["digests"]["image"]) == 64


def test_equal_files_have_equal_digests(client):
    form = client.post("/", files={"image": ("a", picture())}).json()["digests"]
    assert client.post("/", json={"image": data_url(picture())}).json()["digests"] == form


@pytest.mark.parametrize(
    "wrap", [lambda url: url, lambda url: {"image_url": url}, lambda url: {"image_url": {"url": url}}]
)
def test_data_urls(client, wrap):
    answer = client.post("/", json={"input_reference": wrap(data_url(picture())), "prompt": "a"}).json()
    assert answer["values"] == {"prompt": "a"} and answer["files"]["image"][0] == "image.png"


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "https://example.com/a.png", "file:///etc/passwd", "ftp://x/y", "data:image/png,abc",
     "data:;base64,%%%", "data:image/png;base64,aGk", "data:image/png;base64,aGk=\n", "/etc/passwd", "a.png"],
)  # fmt: skip
def test_nothing_is_fetched_and_no_path_is_opened(client, url, monkeypatch):
    """Ollama CVE-2026-5530, Gradio CVE-2026-28416: a server that fetches what a request names; FastVideo opens paths."""
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was opened"))
    for body in ({"input_reference": url}, {"image": {"image_url": url}}):
        status, code, param = error(client.post("/", json=body))
        assert (status, code) in ((400, "invalid_value"), (415, "unsupported_file")) and param in body


def test_bad_base64_is_refused_and_not_ignored(client):
    """infinite-canvas#265: a reference image that could not be read was left out without a word."""
    assert error(client.post("/", json={"image": data_url(picture())[:-7] + "!"})) == (400, "invalid_value", "image")


def test_a_part_without_a_file_name_is_a_value(client):
    answer = client.post("/", files={"video": (None, b'{"id": "video_12345678"}', "application/json")}).json()
    assert answer["values"] == {"video": '{"id": "video_12345678"}'} and answer["files"] == {}


def test_a_video_of_this_server_stays_a_value(client):
    for video in ("video_12345678", {"id": "video_12345678"}):
        assert client.post("/", json={"video": video}).json()["values"] == {"video": video}


def test_an_upload_is_used_by_its_id(client, tmp_path):
    (tmp_path / "a").write_bytes(picture())
    id = client.uploads.add(tmp_path / "a", ".png")
    for value in (id, {"id": id}, {"file_id": id}):
        assert client.post("/", json={"image": value}).json()["files"]["image"] == ["image.png", len(picture())]
    assert error(client.post("/", json={"image": "file_" + "0" * 32})) == (404, "upload_not_found", "image")


@pytest.mark.parametrize("id", ["file_*", "file_../x", "file_" + "0" * 31 + "/"])
def test_an_id_is_no_pattern(client, id):
    assert client.post("/", json={"image": id}).status_code == 400


def test_fields_that_take_no_file(client):
    assert error(client.post("/", files={"prompt": ("a", picture())})) == (400, "invalid_field", "prompt")
    twice = client.post("/", files=[("image", ("a", picture())), ("input_reference", ("b", picture()))])
    assert error(twice) == (400, "invalid_field", "input_reference")
    assert error(client.post("/", files={"video": ("a", picture())})) == (415, "unsupported_file", "video")


@pytest.mark.parametrize(
    ("head", "raw"),
    [("multipart/form-data", b"--x--"), ("multipart/form-data; boundary=x", b"--y\r\n"), ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--")],
)  # fmt: skip
def test_forms_that_are_none(client, head, raw):
    assert error(client.post("/", content=raw, headers={"content-type": head}))[:2] == (400, "invalid_form")


def test_too_many_parts(client):
    """Starlette CVE-2026-54283: limits of forms."""
    fields = client.post("/", files=[("a[]", (None, "x"))] * 501)
    assert error(fields)[:2] == (400, "invalid_form")
    assert error(client.post("/", files={"a": (None, "x" * (1 << 21))}))[:2] == (400, "invalid_form")


def test_an_empty_file_part_is_left_out(client):
    raw = b'--x\r\nContent-Disposition: form-data; name="image"; filename=""\r\n\r\n\r\n--x--\r\n'
    answer = client.post("/", content=raw, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.json() == {"values": {}, "files": {}, "digests": {}}


def test_uploads_make_room_for_newer_ones(tmp_path):
    store = UploadStore(tmp_path / "uploads", bytes=250)
    (tmp_path / "a").write_bytes(b"x" * 100)
    ids = [store.add(tmp_path / "a", ".png") for _ in range(3)]
    with pytest.raises(ApiError):
        store.path(ids[0], "image")
    assert [store.path(id, "image").suffix for id in ids[1:]] == [".png", ".png"]


@pytest.mark.parametrize(
    "raw",
    [b'{"a": "\\ud800"}', b'{"a": ["\\udfff"]}', b'{"\\ud800": 1}', b'{"a": "\xed\xa0\x80"}', b'{"a": %d}' % 10**21, b'{"a": [-%d]}' % 10**400],
    ids=["half", "other half", "half in a name", "half in bytes", "21 digits", "400 digits"],
)  # fmt: skip
def test_json_that_could_not_be_kept_or_computed_with(client, raw):
    given = client.post("/", content=raw, headers={"content-type": "application/json"})
    assert error(given)[:2] == (400, "invalid_json")


def test_whole_characters_and_seeds_of_64_bits_are_taken(client):
    raw = b'{"a": "\\ud83c\\udfac", "seed": 18446744073709551615}'
    given = client.post("/", content=raw, headers={"content-type": "application/json"})
    assert given.json()["values"] == {"a": "\N{CLAPPER BOARD}", "seed": 2**64 - 1}
