"""Colour noise: speckles of colour beyond those of grain, per contrast.

Grain moves red, green and blue alike, so it is in brightness and in colour; here it leaves nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from longtake.metrics.interfaces import Values
from longtake.metrics.segment import LUMA, Segment, luma, noise_deviation

FLOOR = 0.02  # of the contrast: about one grey level of 256, which nobody sees


def opponents(frames: Tensor) -> Tensor:
    """Return red and blue less luma (T, 2, H, W) of frames (T, 3, H, W)."""
    return frames[:, ::2] - luma(frames)[:, None]


def _gain(mixture: Tensor) -> float:
    """Return the deviation of a mixture (n, 3) of red, green and blue, of which each has its own noise of deviation 1."""
    return float(mixture.square().sum(1).mean().sqrt())


OF_LUMA, OF_COLOUR = _gain(LUMA[None]), _gain(torch.eye(3)[::2] - LUMA)


def measure(segment: Segment) -> Values:
    """Return the noise of the colours divided by contrast, less what grain of the same brightness would have."""
    frames = segment.centre_frames
    colour = math.hypot(*(noise_deviation(part) for part in opponents(frames).unbind(1))) / 2**0.5
    grain = noise_deviation(segment.centre)
    return (max(0.0, colour / OF_COLOUR - grain / OF_LUMA) / segment.contrast,)


def drift(now: Values, first: Values) -> float:
    """Return ln((now + floor) / (first + floor)) where colour noise rises, and 0 where it falls: that is blur."""
    return max(0.0, math.log((now[0] + FLOOR) / (first[0] + FLOOR)))


def plant(frames: Tensor, strength: float) -> Tensor:
    """Add Gaussian noise of standard deviation 0.03 at full strength that leaves brightness as it is.

    Near black and white there is less: as much as fits without clipping.
    """
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    noise = 0.03 * strength * (noise - luma(noise)[:, None])
    room = torch.where(noise > 0, 1 - frames, frames) / noise.abs().clamp_min(1e-9)
    return frames + noise * room.amin(1, keepdim=True).clamp(0, 1)
