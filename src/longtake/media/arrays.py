"""Images and videos in memory as uint8 pixels, distinguished by dtype and range, never truncated.

uint8 is taken as it is. Floating-point arrays lie in [0, 1]. Floating-point tensors lie in [-1, 1] if one of their numbers
is negative, else in [0, 1], as in diffusers. Channels come last, or first as (3, H, W) and (T, 3, H, W).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtake.core.errors import InputError
from longtake.core.process.notices import notice
from longtake.media.decoding.colour import over_white

ROUNDING = 1e-3  # by which a number may exceed its range, from half precision or a VAE
RULE = "give uint8 from 0 to 255, floats from 0 to 1, or a tensor from -1 to 1"


def image_pixels(image: Tensor | np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8. InputError for another shape, dtype or range, or a number that is not finite."""
    given = np.shape(image)
    array = _numpy(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3:
        raise InputError(f"an image has the shape (height, width, 3), not {tuple(given)}")
    return _eight_bits(_channels_last(array, given, "an image"), isinstance(image, Tensor), "the image")


def one_array(video: Any) -> Any:
    """Return frames in memory as one array or tensor: those of a call's result, and a list of images, arrays or tensors.

    All else is returned as it is. InputError for a list of frames of several sizes, or of anything else than frames.
    """
    video = getattr(video, "frames", video)  # of a Video
    if hasattr(video, "each_uint8"):  # VideoFrames
        return video.uint8()
    if not isinstance(video, list | tuple):
        return video
    if not video or not all(isinstance(one, Tensor | np.ndarray | Image.Image) for one in video):
        raise InputError("a video is a file, an array or tensor (frames, height, width, 3), or a list of images")
    if all(isinstance(one, Tensor) for one in video) and len({one.shape for one in video}) == 1:
        return torch.stack([one.detach().cpu() for one in video])
    frames = [np.asarray(one.convert("RGB")) if isinstance(one, Image.Image) else _numpy(one) for one in video]
    if len(shapes := sorted({frame.shape for frame in frames})) > 1:
        raise InputError(f"the frames of the input video have several shapes: {shapes[0]} and {shapes[1]}")
    return np.stack(frames)


def video_pixels(video: Any) -> Tensor:
    """Return frames in memory (see `one_array`) as a video (T, H, W, 3) uint8. InputError as in `image_pixels`."""
    video = one_array(video)
    given = np.shape(video)
    array = _numpy(video)
    if array.ndim == 5 and len(array) == 1:  # (1, 3, T, H, W) or (1, T, ...)
        array = array[0].swapaxes(0, 1) if array.shape[1] in (1, 3) and array.shape[-1] not in (1, 3, 4) else array[0]
    if array.ndim != 4 or not len(array):
        raise InputError(f"the input video has the shape {tuple(given)}: give (frames, height, width, 3)")
    pixels = _eight_bits(_channels_last(array, given, "the input video"), isinstance(video, Tensor), "the input video")
    return torch.from_numpy(np.ascontiguousarray(pixels))


def _numpy(given: Tensor | np.ndarray) -> np.ndarray:
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        return (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    return np.asarray(given)


def _channels_last(array: np.ndarray, given: tuple[int, ...], what: str) -> np.ndarray:
    if array.shape[-1] not in (1, 3, 4) and array.shape[-3] in (1, 3, 4):
        array = np.moveaxis(array, -3, -1)
    if array.shape[-1] not in (1, 3, 4) or not array.size:
        raise InputError(f"{what} has three colour channels, last or first, but the shape is {tuple(given)}")
    return array


def _eight_bits(array: np.ndarray, tensor: bool, what: str) -> np.ndarray:
    """Convert (..., C) of any range to (..., 3) uint8."""
    if np.issubdtype(array.dtype, np.floating):
        array = _scaled(array, tensor, what)
    elif array.dtype != np.uint8:
        raise InputError(f"{what} has numbers of the type {array.dtype}, whose range is not certain: {RULE}")
    if array.shape[-1] == 1:
        return array.repeat(3, -1)
    if array.shape[-1] == 4:
        if int(array[..., 3].min()) < 255:
            notice(f"the transparent parts of {what} are laid over white")
        return over_white(array)
    return array


def _scaled(array: np.ndarray, tensor: bool, what: str) -> np.ndarray:
    least, most = float(array.min()), float(array.max())
    if not np.isfinite([least, most]).all():  # NaN passes through min and max
        raise InputError(f"{what} has numbers that are not finite: {RULE}")
    signed = tensor and least < 0
    if least < (-1 if signed else 0) - ROUNDING or most > 1 + ROUNDING:
        raise InputError(f"{what} has floating-point numbers from {least:.4g} to {most:.4g}: {RULE}")
    array = array.astype(np.float32)
    return np.clip(np.round((array + 1) * 127.5 if signed else array * 255), 0, 255).astype(np.uint8)
