"""Bad pictures, videos, control signals and tables of captions, generated."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from PIL import Image

from longtake.media.finished.save_video import save_video
from tests.fuzz.harness import IMPOSTORS, SPECIAL, Case, cut, flipped, judge, special

REST = ["--model", "clock", "--seconds", "0.2", "--steps", "1", "-o", "{out}"]


@cache
def picture(kind: str = "PNG") -> bytes:
    """A small good picture."""
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


@cache
def video() -> bytes:
    """A small good video, of 12 frames."""
    path = Path(mkdtemp()) / "v.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    save_video(path, iter(frames), 24)
    return path.read_bytes()


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG whose header promises a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """The bytes of a picture."""
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def given(flag: str, name: str, data):
    """Generate with a file behind a flag; data: its bytes, or a function of (rng)."""

    def make(folder, rng):
        if isinstance(data, str):
            special(folder / name, data)
        else:
            (folder / name).write_bytes(data(rng) if callable(data) else data)
        return ["generate", "a red ball", flag, folder / name, *REST]

    return make


def pictures():
    """Bad pictures."""
    animated = saved(Image.new("RGB", (8, 8)), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    wrong = {
        **{kind: data for kind, data in IMPOSTORS.items()}, "no pixels": png(32, 32), "huge": png(10**6, 10**6), "flat": png(0, 32),
        "nan": saved(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), "wide": png(2**31 - 1, 1), "animated": animated,
    }  # fmt: skip
    for flag in ("--image", "--last-image"):
        for kind, data in wrong.items():
            yield Case(f"{flag} {kind}", given(flag, "p.png", data), None if kind == "animated" else 2)
        for kind in SPECIAL:
            yield Case(f"{flag} is a {kind}", given(flag, "p.png", kind))
    for i in range(8):
        for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
            if i < 3:
                yield Case(
                    f"picture {kind} cut {i}", given("--image", "p", lambda rng, k=kind: cut(picture(k), rng)), None
                )
            yield Case(
                f"picture {kind} {i}", given("--image", "p", lambda rng, k=kind: flipped(picture(k), rng, 2)), None
            )


def videos():
    """Bad videos to continue."""
    words = ["a red ball", *REST]

    def on(data):
        def make(folder, rng):
            path = folder / "v.mp4"
            if isinstance(data, str):
                special(path, data)
            else:
                path.write_bytes(data(rng) if callable(data) else data)
            return ["extend", path, *words]

        return make

    for kind, data in IMPOSTORS.items():
        yield Case(f"video is {kind}", on(data))
    for kind in SPECIAL:
        yield Case(f"video is a {kind}", on(kind))
    yield Case("video is a picture", on(picture()), 0)  # a video of one frame
    for i in range(10):
        yield Case(f"video cut {i}", on(lambda rng: cut(video()[:-100], rng)))
        yield Case(f"video flipped {i}", on(lambda rng: flipped(video(), rng, 3)), None)


CONTROLS = {
    "empty": "", "words": "a,b\nc,d", "ragged": "1,2\n3", "nan": "1,nan\n2,3", "inf": "inf,1", "semicolons": "1;2\n3;4", "nul": "1\0,2",
    "wide": ",".join("1" * 100000), "huge number": "1e999,2", "hex": "0x1,2", "quotes": '"1,2', "one column": "1\n2\n3", "blank": "\n\n\n",
}  # fmt: skip


def controls():
    """Bad control signals."""
    for kind, text in CONTROLS.items():
        yield Case(f"control {kind}", given("--control", "c.csv", text.encode()))
    for kind in SPECIAL:
        yield Case(f"control is a {kind}", given("--control", "c.csv", kind))
    for kind, data in IMPOSTORS.items():
        yield Case(f"control sound is {kind}", given("--control", "c.wav", data))


TABLES = {
    "t.csv": ("", "file\nv.mp4", "caption\na", "file,caption\nno.mp4,a", "file,caption\n../v.mp4,a", 'file,caption\n"v.mp4,a', "\0"),
    "t.jsonl": ("", "{", "[]", "3", '{"file": 3, "caption": "a"}', '{"file": "v.mp4"}', '{"file": "v.mp4", "caption": []}', "[" * 100000, '{"file": "no.mp4", "caption": "a"}', '{"caption": NaN}'),
}  # fmt: skip


def tables():
    """Bad tables of captions."""

    def on(name, data):
        def make(folder, rng):
            (folder / "videos").mkdir()
            (folder / "videos" / "v.mp4").write_bytes(video())
            if data in SPECIAL:
                special(folder / name, data)
            else:
                (folder / name).write_bytes(data.encode())
            rest = ["--shots", "none", "--min-side", "16", "--min-seconds", "0.1", "--jobs", "1", "-o", "{out}"]
            return ["data", "prepare", folder / "videos", "--captions", folder / name, *rest]

        return make

    for name, texts in TABLES.items():
        for i, text in enumerate(texts):
            yield Case(f"table {name} {i}", on(name, text))
        for kind in SPECIAL:
            yield Case(f"table {name} is a {kind}", on(name, kind))


@pytest.mark.long
@pytest.mark.parametrize("case", [*pictures(), *videos()], ids=str)
def test_bad_media_are_refused(case, tmp_path):
    judge(case, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("case", [*controls(), *tables()], ids=str)
def test_bad_tables_are_refused(case, tmp_path):
    judge(case, tmp_path)
