"""Small videos of every colour coding, orientation and defect that footage has, written by a few lines of PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from longtake.media.scaling import EXACT

RED = (200, 40, 60)


def corners(height: int = 48, width: int = 80, colour: tuple[int, int, int] = RED) -> np.ndarray:
    """Return a picture (H, W, 3) of one colour, white at the top left and black at the bottom right."""
    picture = np.full((height, width, 3), colour, np.uint8)
    picture[: height // 3, : width // 3], picture[-(height // 3) :, -(width // 3) :] = 255, 0
    return picture


def write(
    path: Path, pictures: Sequence[np.ndarray], *, matrix: int | None = None, full: bool = False, pix_fmt: str = "yuv420p",
    codec: str = "libx264", tags: dict[str, int] | None = None, aspect: Fraction | None = None,
    options: dict[str, str] | None = None, times: Sequence[int] | None = None, container: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write pictures (H, W, 3), uint8 or uint16, at 24 fps. matrix: their colour matrix and tag (None: BT.601, untagged).

    full: full range. tags: color_trc and color_primaries. aspect: of a pixel. times: of each frame in 1/24 s.
    """
    scaler = VideoReformatter()
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, 24, options={"crf": "1", "threads": "1", **(options or {})})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
        stream.codec_context.time_base = Fraction(1, 24)
        known: dict[str, Any] = {} if matrix is None else {"colorspace": matrix}
        if full:
            known["color_range"] = ColorRange.JPEG
        for name, value in {**known, **(tags or {})}.items():
            setattr(stream.codec_context, name, value)
        if aspect is not None:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = aspect
        for number, picture in enumerate(pictures):
            source = av.VideoFrame.from_ndarray(picture, "rgb48le" if picture.dtype == np.uint16 else "rgb24")
            frame = scaler.reformat(
                source, format=pix_fmt, src_colorspace=matrix or Colorspace.DEFAULT, src_color_range=ColorRange.JPEG,
                dst_colorspace=matrix or Colorspace.DEFAULT, interpolation=EXACT,
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            )  # fmt: skip
            frame.pts, frame.time_base = times[number] if times else number, Fraction(1, 24)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def with_matrix(path: Path, matrix: Sequence[int], out: Path) -> Path:
    """Copy an mp4 with another display matrix: a, b, c, d of x' = a x + c y, y' = b x + d y, each -1, 0 or 1."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (number << 16 & 0xFFFFFFFF for number in matrix)
    data[place : place + 36] = b"".join(n.to_bytes(4, "big") for n in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    out.write_bytes(data)
    return out
