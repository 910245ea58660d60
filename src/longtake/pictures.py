"""Pictures and videos of any size and rate, made into frames of one size and rate.

The rule: a picture is turned upright, scaled (Lanczos) until it covers the size, and cut to its middle. Frame n of a
video is the picture whose time is nearest to n / rate, so a video of that rate keeps its frames one for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from longtake.plan import PlanError

Picture = Tensor | np.ndarray | Image.Image | str | Path  # arrays are uint8 (H, W, 3)


def pictures(sources: Sequence[Picture], size: tuple[int, int]) -> Tensor:
    """Pictures as frames (1 3 T H W) in [-1, 1] of this (height, width). PlanError if one cannot be read."""
    return video_of(torch.stack([fitted(source, size) for source in sources]))


def fitted(source: Picture, size: tuple[int, int]) -> Tensor:
    """A picture as uint8 (H, W, 3) of this (height, width)."""
    height, width = size
    covering = ImageOps.fit(opened(source), (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(covering))


def opened(source: Picture) -> Image.Image:
    """A picture, upright and in three colours. PlanError if it is none."""
    if isinstance(source, str | Path):
        try:
            with Image.open(source) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        except FileNotFoundError as error:
            raise PlanError(f"there is no picture {source}: give the path of one") from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise PlanError(f"{source} is no picture that can be read: {error}") from error
    if isinstance(source, Image.Image):
        return source.convert("RGB")
    pixels = np.asarray(source, dtype=np.uint8)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise PlanError(f"a picture has the shape (height, width, 3), not {pixels.shape}")
    return Image.fromarray(pixels)


def video_of(frames: Tensor) -> Tensor:
    """uint8 frames (T, H, W, 3) as (1 3 T H W) in [-1, 1]."""
    return frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def resampled(shown: Iterable[tuple[Fraction, Tensor]], rate: Fraction) -> Iterator[Tensor]:
    """Pictures with the seconds at which each is shown -> pictures at this rate, from the first to the end of the last.

    The last one lasts as long as the others do on average.
    """
    began = before = None
    seen = made = 0
    for time, picture in shown:
        began = time if began is None else began
        time -= began
        while before is not None and 2 * Fraction(made) / rate <= before[0] + time:
            yield before[1]
            made += 1
        before, seen = (time, picture), seen + 1
    if before is None:
        return
    last = before[0] / (seen - 1) if seen > 1 else 1 / rate
    for _ in range(made, max(1, round((before[0] + last) * rate))):
        yield before[1]
