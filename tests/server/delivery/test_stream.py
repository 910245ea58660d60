"""Streams and playlists that follow a run, over real sockets."""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import httpx2 as httpx
import pytest

from longtake.media.video_reader import timed_frames
from tests.server.serving import served

STREAM, HLS = "/v1/videos/video_1/stream", "/v1/videos/video_1/hls/"


@pytest.fixture
def address(run):
    with served(run.app()) as address:
        yield address


def until(condition, seconds=10.0):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_stream_follows_the_run_to_its_end(run, address):
    run.grow(1)
    with ThreadPoolExecutor(3) as pool:
        viewers = [pool.submit(httpx.get, address + STREAM, timeout=30) for _ in range(3)]
        until(lambda: run.delivery.feeds.viewers["stream"] == 3)
        while not run.folder.joinpath("video.mp4").exists():
            run.grow(1)
        run.finish()
        answers = [viewer.result() for viewer in viewers]
    assert all(answer.content == run.content for answer in answers)
    assert answers[0].headers["content-type"].startswith('video/mp4; codecs="avc1.')
    assert "content-length" not in answers[0].headers
    assert [time for time, _ in timed_frames(answers[0].content)] == [Fraction(n, 24) for n in range(127)]
    until(lambda: run.delivery.feeds.viewers["stream"] == 0)


@pytest.mark.parametrize(("start", "segment"), [("0", 0), ("1.5", 1), ("2", 2), ("live", 2), ("900", 3)])
def test_a_stream_begins_with_the_segment_of_a_time(run, address, start, segment):
    run.grow(3)
    run.stop()
    answer = httpx.get(address + STREAM, params={"from": start})
    media = run.folder / "media"
    parts = [media / "init.mp4", *sorted(media.glob("s*.m4s"))[segment:]]
    assert answer.content == b"".join(part.read_bytes() for part in parts)
    assert answer.headers["x-longtake-segment"] == str(segment)
    if segment < 3:
        assert next(timed_frames(answer.content))[0] == segment  # segments of one second keep their absolute time


@pytest.mark.parametrize("start", ["-1", "nan", "inf", "x", ""])
def test_a_time_that_is_none(run, address, start):
    run.grow(1)
    refused = httpx.get(address + STREAM, params={"from": start})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "from")


def test_a_stream_waits_for_the_first_segment(run, address):
    with ThreadPoolExecutor(1) as pool:
        viewer = pool.submit(httpx.get, address + STREAM, timeout=30)
        time.sleep(0.1)
        run.grow(1)
        run.stop()
        assert viewer.result().content == run.content


def test_a_run_that_ends_without_frames(run, address):
    run.live = False
    assert httpx.get(address + STREAM).status_code == 409


def test_slow_viewers_hold_nothing_up(run, address):
    """Fifty viewers that never read, and one that does."""
    run.grow(5)
    host, port = address.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(50)]
    for each in slow:
        each.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    until(lambda: run.delivery.feeds.viewers["stream"] == 50)
    started = time.monotonic()
    assert httpx.get(address + "/v1/videos/video_1/content").content == run.content
    assert time.monotonic() - started < 5
    for each in slow:
        each.close()
    until(lambda: run.delivery.feeds.viewers["stream"] == 0)


def playlist(address: str) -> str:
    answer = httpx.get(address + HLS + "index.m3u8")
    assert answer.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert answer.headers["cache-control"] == "no-store"
    return answer.text


def test_a_playlist_only_grows_and_ends_with_the_run(run, address):
    seen = ""
    for count in (1, 2, 3):
        run.grow(1)
        text = playlist(address)
        assert text.startswith(seen) and text.count("#EXTINF") == count and "ENDLIST" not in text
        seen = text
    run.finish()
    text = playlist(address)
    assert text.startswith(seen) and text.endswith("#EXT-X-ENDLIST\n")
    for line in ("#EXT-X-VERSION:7", "#EXT-X-PLAYLIST-TYPE:EVENT", "#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-TARGETDURATION:1",
                 '#EXT-X-MAP:URI="init.mp4"'):  # fmt: skip
        assert f"{line}\n" in text
    lengths = [float(length) for length in re.findall(r"#EXTINF:(\d+\.\d{6}),", text)]
    assert sum(lengths) == pytest.approx(127 / 24, abs=1e-5) and max(lengths) <= 1


def test_the_files_of_a_playlist_never_change(run, address):
    run.finish()
    names = ["init.mp4", *re.findall(r"^s\d+\.m4s$", playlist(address), re.MULTILINE)]
    answers = [httpx.get(address + HLS + name) for name in names]
    assert b"".join(answer.content for answer in answers) == run.content
    assert all("immutable" in answer.headers["cache-control"] for answer in answers)


@pytest.mark.parametrize(
    "name",
    ["s000009.m4s", "s0.m4s", "..%2frun.json", "..%5crun.json", "run.json", "%00", "s000000.m4s%00", "s٠٠٠٠٠٠.m4s"],
)
def test_other_names_are_not_there(run, address, name):
    """ComfyUI CVE-2026-56671, Gradio CVE-2024-1561: names in a request that lead out of the folder."""
    run.grow(1)
    assert httpx.get(address + HLS + name).status_code == 404
