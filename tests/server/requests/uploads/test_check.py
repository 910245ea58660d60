"""Files of clients: recognised by their bytes, bounded, and decoded where a broken decoder harms nothing."""

import asyncio
import io
import struct
import sys
import time
import wave
import zlib

import av
import numpy as np
import pytest
from PIL import Image

from longtake.server.errors import ApiError
from longtake.server.requests.uploads.check import TAKEN, FileCheck
from longtake.server.requests.uploads.kinds import HEAD, kind_of
from longtake.server.requests.uploads.limits import MediaLimits


def checked(path, field="image", **limits):
    return asyncio.run(FileCheck(MediaLimits(**limits)).check(path, field, TAKEN[field]))


def refused(path, field="image", **limits):
    with pytest.raises(ApiError) as found:
        checked(path, field, **limits)
    assert found.value.param == field
    return found.value


def png(path, width=40, height=30):
    Image.new("RGB", (width, height), "red").save(path, "PNG")
    return path


def clip(path, seconds=1.0, fps=10, size=32, format="mp4"):
    """Write a black clip."""
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream("mpeg4" if format == "mp4" else "libvpx", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((size, size, 3), np.uint8), "rgb24")
        for number in range(max(1, round(seconds * fps))):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sparse_clip(path, hours):
    """Write a clip of two frames that are hours apart."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        for number in (0, round(hours * 3600)):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def png_header(width, height):
    """The bytes of a PNG with this size in its header, and almost no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 10_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def sound(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        file.writeframes(b"\0\0" * 8000)
    return path


def test_files_that_are_taken(tmp_path):
    image = checked(png(tmp_path / "any name ../x".replace("/", "_")))
    assert (image.kind.suffix, image.facts) == (".png", {"width": 40, "height": 30})
    video = checked(clip(tmp_path / "a.bin"), "video")
    assert (video.kind.suffix, video.facts) == (".mp4", {"width": 32, "height": 32, "frames": 10, "seconds": 1.0})
    assert checked(clip(tmp_path / "b", format="webm"), "video").kind.suffix == ".mkv"
    assert checked(sound(tmp_path / "c"), "control").facts == {"seconds": 1.0}
    (tmp_path / "d").write_text("# loudness\n0.1,0.2\n")
    assert checked(tmp_path / "d", "control").kind.suffix == ".csv"


def test_a_huge_image_is_refused_from_its_header(tmp_path):
    """vLLM GHSA-pq5c-rjhq-qp7p: a few bytes that decode to gigabytes."""
    (tmp_path / "bomb").write_bytes(png_header(20_000, 20_000))
    started = time.monotonic()
    assert "20000x20000" in refused(tmp_path / "bomb").message
    assert time.monotonic() - started < 10


def test_ten_hours_of_black_are_refused(tmp_path):
    """vLLM #57525: a clip of unbounded length."""
    assert "36,001 s" in refused(sparse_clip(tmp_path / "long", 10), "video").message
    assert "more than 20 frames" in refused(clip(tmp_path / "many", 3), "video", frames=20).message
    assert "at most 1 s" in refused(clip(tmp_path / "b.mkv", 2, format="webm"), "video", seconds=1).message
    assert "at most 100" in refused(clip(tmp_path / "large"), "video", frame_pixels=100).message


def test_a_decoder_that_takes_too_much_is_ended(tmp_path):
    image = png(tmp_path / "large", 6000, 6000)
    if sys.platform == "linux":
        assert "decod" in refused(image, memory=1 << 27).message
    assert "longer than" in refused(image, wall=0.01).message


@pytest.mark.parametrize("field", ["image", "video", "control"])
@pytest.mark.parametrize(
    "data",
    [b"", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", b"<html>", b"#!/bin/sh\n" * 3, b"#EXTM3U\nhttp://10.0.0.1/\n",
     b"\x80\x02}q\x00.", b"PK\x03\x04", b"%PDF-1.7", b"ffconcat version 1.0\nfile /etc/passwd\n"],
)  # fmt: skip
def test_other_contents_are_refused(tmp_path, field, data):
    """ComfyUI CVE-2026-56670: SVG; playlists, which a decoder would follow to other files and hosts."""
    (tmp_path / "a.png").write_bytes(data)
    if field == "control" and data.startswith(b"#"):
        assert checked(tmp_path / "a.png", field).kind.suffix == ".csv"  # read as text, never by a decoder
    else:
        assert refused(tmp_path / "a.png", field).status == 415


def test_the_wrong_kind_for_a_field(tmp_path):
    assert "This one is PNG (image)" in refused(png(tmp_path / "a"), "video").message
    assert refused(clip(tmp_path / "b"), "image").status == 415


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_broken_files_are_refused_or_read(tmp_path, cut):
    for made, field in ((png(tmp_path / "a", 500, 500), "image"), (clip(tmp_path / "b"), "video")):
        data = made.read_bytes()
        made.write_bytes(data[: int(len(data) * cut)])
        assert refused(made, field).code == "invalid_file"


def test_kinds_by_their_first_bytes():
    for format, suffix in (("JPEG", ".jpg"), ("WEBP", ".webp"), ("BMP", ".bmp"), ("GIF", ".gif"), ("TIFF", ".tiff")):
        out = io.BytesIO()
        Image.new("RGB", (8, 8)).save(out, format)
        assert kind_of(out.getvalue()[:HEAD]).suffix == suffix
