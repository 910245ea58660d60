"""Flicker: how unsteady the brightness of the whole picture is, per contrast."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.metrics.interfaces import Values, log_ratio
from longtake.metrics.segment import Segment


def measure(segment: Segment) -> Values:
    """Return the mean absolute second difference of the mean luma of frames, divided by contrast."""
    light = segment.luma.mean((1, 2))
    return (float(light.diff(n=2).abs().mean()) / segment.contrast if len(light) > 2 else 0.0,)


def drift(now: Values, first: Values) -> float:
    """Return the size of the natural logarithm of the ratio."""
    return log_ratio(now[0], first[0], floor=0.02)


def plant(frames: Tensor, strength: float) -> Tensor:
    """Make frames brighter and darker in turn, by 0.02 at full strength."""
    sign = 1 - 2 * (torch.arange(len(frames)) % 2)
    return (frames + 0.02 * strength * sign[:, None, None, None]).clamp(0, 1)
