"""The video as one file: exact bytes in every state of the run."""

import random

import pytest
from starlette.testclient import TestClient

from tests.runs.toy_runs import sha

URL = "/v1/videos/video_1/content"


@pytest.fixture
def client(run):
    return TestClient(run.app())


def test_a_growing_video_has_no_total_and_no_etag(run, client):
    run.grow(2)
    whole = client.get(URL)
    assert (whole.status_code, whole.content) == (200, run.content)
    assert whole.headers["content-length"] == str(len(run.content))
    assert "etag" not in whole.headers and whole.headers["cache-control"] == "no-store"
    assert whole.headers["content-type"].startswith('video/mp4; codecs="avc1.')
    part = client.get(URL, headers={"range": "bytes=0-"})
    assert (part.status_code, part.headers["content-range"]) == (206, f"bytes 0-{len(run.content) - 1}/*")


def test_what_was_read_stays_the_same_while_it_grows(run, client):
    run.grow(1)
    early = client.get(URL).content
    for _ in range(3):
        run.grow(1)
        more = client.get(URL, headers={"range": f"bytes={len(early)}-"})
        assert more.status_code == 206
        early += more.content
    assert early == run.content


def test_random_ranges_of_a_growing_video(run, client):
    rng = random.Random(0)
    for _ in range(4):
        run.grow(1)
        content = run.content
        for _ in range(20):
            first = rng.randrange(len(content))
            last = rng.randrange(first, len(content) + 100)
            part = client.get(URL, headers={"range": f"bytes={first}-{last}"})
            assert part.content == content[first : last + 1]
            assert part.headers["content-range"] == f"bytes {first}-{min(last, len(content) - 1)}/*"
            assert part.headers["content-length"] == str(len(part.content))


def test_a_range_behind_the_end(run, client):
    run.grow(1)
    size = len(run.content)
    refused = client.get(URL, headers={"range": f"bytes={size}-"})
    assert (refused.status_code, refused.headers["content-range"]) == (416, f"bytes */{size}")
    assert refused.json()["error"]["code"] == "range_not_satisfiable"


def test_a_finished_video_is_video_mp4_with_a_strong_etag(run, client):
    run.finish()
    video = (run.folder / "video.mp4").read_bytes()
    whole = client.get(URL)
    assert whole.content == video and whole.headers["etag"] == f'"{sha(run.folder / "video.mp4")}"'
    part = client.get(URL, headers={"range": "bytes=100-199", "if-range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, video[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(video)}"
    assert client.get(URL, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("condition", ['"other"', 'W/"x"', "Sat, 28 Nov 2026 10:00:00 GMT"])
def test_another_state_in_if_range_gives_the_whole(run, client, condition):
    run.grow(1)
    headers = {"range": "bytes=0-9", "if-range": condition}
    assert client.get(URL, headers=headers).status_code == 200
    run.finish()
    assert client.get(URL, headers=headers).status_code == 200


def test_several_ranges_give_the_whole(run, client):
    run.grow(1)
    assert client.get(URL, headers={"range": "bytes=0-1,4-5"}).content == run.content


def test_head_agrees(run, client):
    run.grow(1)
    for _ in range(2):
        head, got = client.head(URL, headers={"range": "bytes=0-9"}), client.get(URL)
        assert (head.status_code, head.content) == (200, b"")
        assert dict(head.headers) == dict(got.headers)
        run.finish()


def test_follow_goes_on_to_the_end(run, client):
    run.grow(2)
    run.stop()
    followed = client.get(URL, params={"follow": "1"})
    assert followed.content == run.content and "content-length" not in followed.headers


def test_a_stopped_video_that_was_not_published(run, client):
    run.grow(2)
    run.stop()
    assert client.get(URL).content == run.content


def test_thumbnail_and_spritesheet(run, client):
    run.grow(1)
    thumbnail = client.get(URL, params={"variant": "thumbnail"})
    assert thumbnail.headers["content-type"] == "image/jpeg" and thumbnail.content[:2] == b"\xff\xd8"
    sheet = client.get(URL, params={"variant": "spritesheet"})
    assert sheet.headers["content-type"] == "image/png" and sheet.content[:4] == b"\x89PNG"
    run.finish()
    assert client.get(URL, params={"variant": "spritesheet"}).content == (run.folder / "sheet.png").read_bytes()


def test_errors(run, client):
    none = client.get(URL)
    assert (none.status_code, none.headers["x-should-retry"]) == (409, "false")
    assert none.json()["error"]["code"] == "no_frames_yet"
    assert client.get("/v1/videos/video_2/content").status_code == 404
    assert client.get(URL, params={"variant": "audio"}).json()["error"]["param"] == "variant"


def test_a_link_in_the_run_directory_is_not_followed(run, client, tmp_path):
    run.grow(1)
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 100_000)
    first = run.folder / "media" / "s000000.m4s"
    first.unlink()
    first.symlink_to(secret)
    answer = client.get(URL)
    assert answer.status_code == 409 and b"sss" not in answer.content


def test_a_range_never_mixes_the_segments_with_the_finished_file(run, client):
    run.grow(2)
    early = client.get(URL).content
    run.finish()
    whole = client.get(URL)
    plain = client.get(URL, headers={"range": f"bytes={len(early)}-"})
    assert (plain.status_code, plain.content) == (200, whole.content)
    known = {"range": f"bytes={len(early)}-", "if-range": whole.headers["etag"]}
    assert (client.get(URL, headers=known).content, client.get(URL, headers=known).status_code) == (
        whole.content[len(early) :],
        206,
    )
    elsewhere = client.get(URL, headers={"range": f"bytes={len(early) + 1}-"})
    assert elsewhere.content == whole.content[len(early) + 1 :]
