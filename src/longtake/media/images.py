"""Images and frames of any size and rate, converted to the size and frame rate of a model.

An image is turned upright, scaled (Lanczos) until it covers the size, and cropped to its centre. Frame n of a resampled
video is the frame whose time is nearest to n / fps, so a video at that rate keeps its frames one for one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from longtake.core.errors import InputError
from longtake.core.files import problem_of
from longtake.media import unreadable
from longtake.media.arrays import image_pixels
from longtake.media.image_modes import to_rgb

LONGEST_GAP = 3600  # seconds from one frame of a video to the next; more is an error of its timestamps
ImageInput = Tensor | np.ndarray | Image.Image | str | Path  # arrays: see `longtake.media.arrays`


def images_to_video(images: Sequence[ImageInput], size: tuple[int, int]) -> Tensor:
    """Convert images to frames (1, 3, T, H, W) in [-1, 1]. size: (height, width). Raises InputError if one cannot be read."""
    return frames_to_video(torch.stack([fit_image(image, size) for image in images]))


def fit_image(image: ImageInput, size: tuple[int, int]) -> Tensor:
    """Scale and crop an image to (height, width); returns uint8 (H, W, 3). Raises InputError if it cannot be read."""
    height, width = size
    covering = ImageOps.fit(open_image(image), (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(covering))


def open_image(image: ImageInput) -> Image.Image:
    """Open an image, turn it upright and convert it to 8-bit sRGB; notices say what is lost. InputError if it cannot be read."""
    if isinstance(image, str | Path):
        return _opened(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image, "the image")
    return Image.fromarray(image_pixels(image))


def save_picture(frame: Tensor, path: Path) -> None:
    """Write a frame (3, H, W) in [-1, 1] as an image file."""
    pixels = ((frame.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
    Image.fromarray(pixels.cpu().numpy()).save(path)


def _opened(path: Path) -> Image.Image:
    if problem := problem_of(path):
        raise InputError(f"there is no image {path}: {problem}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice that size is an error
            with Image.open(path) as file:
                return to_rgb(file, str(path))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as an image: {unreadable.reason(path) or error}") from error


def frames_to_video(frames: Tensor) -> Tensor:
    """Convert uint8 frames (T, H, W, 3) to (1, 3, T, H, W) in [-1, 1]."""
    return frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def resample_frames(timed: Iterable[tuple[Fraction, Tensor]], fps: Fraction) -> Iterator[Tensor]:
    """Resample frames, given with the seconds at which each is shown, to a frame rate.

    The video ends when its last frame ends, which is shown as long as the others are on average.
    """
    start = previous = None
    read = written = 0
    for time, frame in timed:
        start = time if start is None else start
        time -= start
        if previous is not None and time - previous[0] > LONGEST_GAP:
            raise InputError(
                f"the video has no frame for {float(time - previous[0]):.0f} s behind second {float(previous[0]):.0f}: cut it there"
            )
        while previous is not None and 2 * Fraction(written) / fps <= previous[0] + time:
            yield previous[1]
            written += 1
        previous, read = (time, frame), read + 1
    if previous is None:
        return
    duration = previous[0] / (read - 1) if read > 1 else 1 / fps
    for _ in range(written, max(1, round((previous[0] + duration) * fps))):
        yield previous[1]
