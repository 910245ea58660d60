"""Parts of a video: one frame as a small picture, and a range of frames as mp4, GIF or PNG files in a zip."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from longtake.media.finished.save_video import save_video
from longtake.media.video_reader import timed_frames
from longtake.server.delivery.run_media import RunMedia, read_place

Format = Literal["mp4", "gif", "png"]
MOST_FRAMES = {"mp4": 24 * 600, "gif": 24 * 30, "png": 24 * 60}  # of an excerpt, by its format
HIGH = 160  # pixels of a small picture


def frames_between(media: RunMedia, first: int, end: int) -> Iterator[np.ndarray]:
    """Yield output frames first..end - 1, uint8 (H, W, 3), decoding one segment at a time. end: at most `media.frames`."""
    length, init = media.manifest.segment, read_place(media.init, media.init.left)
    for index in range(first // length, -(-end // length)):
        place = media.segment(index)
        for number, (_, frame) in enumerate(timed_frames(init + read_place(place, place.left)), index * length):
            if number >= end:
                return
            if number >= first:
                yield frame.numpy()


def small_picture(media: RunMedia, number: int) -> bytes:
    """Return an output frame as JPEG, at most 160 pixels high."""
    picture = Image.fromarray(next(frames_between(media, number, number + 1)))
    picture.thumbnail((HIGH * 4, HIGH))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82)
    return out.getvalue()


def write_excerpt(media: RunMedia, first: int, end: int, kind: Format, folder: Path) -> Path:
    """Write output frames first..end - 1 to a file in a folder; return its path."""
    frames = frames_between(media, first, end)
    if kind != "png":
        return save_video(folder / f"excerpt.{kind}", frames, float(media.fps))
    path = folder / "excerpt.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for number, frame in enumerate(frames, first):
            out = io.BytesIO()
            Image.fromarray(frame).save(out, "PNG")
            archive.writestr(f"frame-{number:06d}.png", out.getvalue())
    return path
