"""A segment: a few seconds of video as metrics see it, with the reductions that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d

SMALL = 120  # pixels of the shorter side of the reduced picture; a full-size one would give the same tones for far more work
CROP = 256  # pixels each way of the centre at native size, where sharpness and noise are read
CHUNK = 16  # frames converted to float at once
MASK = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])  # sees noise, and no edges or slopes
LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
Value = TypeVar("Value")


@dataclass(frozen=True)
class Segment:
    """Frames (T, 3, H, W), uint8 or float in [0, 1], and their rate in frames per second; see `Segment.of`."""

    frames: Tensor
    fps: float
    _computed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def of(frames: Tensor | np.ndarray, fps: float) -> Segment:
        """Take frames as the project makes them: uint8 (T, H, W, 3), or float (T, 3, H, W) in [0, 1].

        Raises ValueError for any other shape or type, for an empty segment and for a rate that is not positive.
        """
        frames = torch.as_tensor(frames)
        if frames.dtype == torch.uint8 and frames.ndim == 4 and frames.shape[3] == 3:
            frames = frames.permute(0, 3, 1, 2)
        elif not (frames.is_floating_point() and frames.ndim == 4 and frames.shape[1] == 3):
            raise ValueError(
                f"frames of shape {tuple(frames.shape)} and type {frames.dtype} cannot be measured: "
                "give uint8 (T, H, W, 3), or float (T, 3, H, W) in [0, 1]"
            )
        if not (len(frames) and fps > 0):
            raise ValueError(
                f"{len(frames)} frames at {fps} fps cannot be measured: give one frame or more, and a rate"
            )
        return Segment(frames, float(fps))

    def once(self, compute: Callable[[Segment], Value]) -> Value:
        """Return compute(self), computed once for all metrics that ask for it."""
        if compute not in self._computed:
            self._computed[compute] = compute(self)
        return self._computed[compute]

    def floats(self, every: int = 1) -> Iterator[Tensor]:
        """Yield every n-th frame as float (n, 3, H, W) in [0, 1], a few at a time."""
        for part in self.frames[::every].split(CHUNK):
            yield part if part.is_floating_point() else part.float() / 255

    @cached_property
    def small(self) -> Tensor:
        """Frames (T, 3, h, w) in [0, 1] whose shorter side is at most 120 pixels, reduced by area."""
        height, width = self.frames.shape[2:]
        scale = min(1.0, SMALL / min(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        return torch.cat([part if scale == 1 else adaptive_avg_pool2d(part, size) for part in self.floats()])

    @cached_property
    def luma(self) -> Tensor:
        """Brightness (T, h, w) of the reduced frames, from 0 to 1."""
        return luma(self.small)

    @cached_property
    def contrast(self) -> float:
        """Standard deviation of brightness within a frame, averaged over frames; never 0, since others divide by it."""
        return max(float(self.luma.flatten(1).std(1, correction=0).mean()), 1e-4)

    @cached_property
    def centre(self) -> Tensor:
        """Brightness (n, h, w) of `centre_frames`."""
        return luma(self.centre_frames)

    @cached_property
    def centre_frames(self) -> Tensor:
        """The centre (n, 3, h, w) of every fourth frame at native size, at most 256 pixels each way, in [0, 1]."""
        height, width = self.frames.shape[2:]
        h, w = min(height, CROP), min(width, CROP)
        top, left = (height - h) // 2, (width - w) // 2
        return torch.cat([part[:, :, top : top + h, left : left + w] for part in self.floats(4)])


def luma(frames: Tensor) -> Tensor:
    """Return the brightness (T, H, W) of frames (T, 3, H, W)."""
    return torch.einsum("tchw,c->thw", frames, LUMA)


def noise_deviation(light: Tensor) -> float:
    """Return the standard deviation of the noise in frames (n, H, W) (Immerkaer 1996, with a median for the mean).

    0 for frames below 3 x 3 pixels.
    """
    if min(light.shape[1:]) < 3:
        return 0.0
    answer = conv2d(light[:, None], MASK[None, None]).abs().flatten(1)
    return float(answer.median(1).values.mean()) / (6 * 0.6745)
