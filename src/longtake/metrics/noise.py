"""Noise: the grain of the picture, per contrast."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from longtake.metrics.interfaces import Values
from longtake.metrics.segment import Segment, noise_deviation

FLOOR = 0.02  # of the contrast: about one grey level of 256, which nobody sees


def measure(segment: Segment) -> Values:
    """Return the standard deviation of the noise divided by contrast."""
    return (noise_deviation(segment.centre) / segment.contrast,)


def drift(now: Values, first: Values) -> float:
    """Return ln((now + floor) / (first + floor)) where noise rises, and 0 where it falls: that is blur, see `sharpness`."""
    return max(0.0, math.log((now[0] + FLOOR) / (first[0] + FLOOR)))


def plant(frames: Tensor, strength: float) -> Tensor:
    """Add Gaussian noise of standard deviation 0.02 at full strength."""
    rng = torch.Generator().manual_seed(0)
    return (frames + 0.02 * strength * torch.randn(frames.shape, generator=rng)).clamp(0, 1)
