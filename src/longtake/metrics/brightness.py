"""Brightness: the mean luma of a segment."""

from __future__ import annotations

from torch import Tensor

from longtake.metrics.interfaces import Values
from longtake.metrics.segment import Segment


def measure(segment: Segment) -> Values:
    """Return the mean luma, 0 black to 1 white."""
    return (float(segment.luma.mean()),)


def drift(now: Values, first: Values) -> float:
    """Return the difference, whichever way it goes."""
    return abs(now[0] - first[0])


def plant(frames: Tensor, strength: float) -> Tensor:
    """Make frames darker, by 0.08 of white at full strength."""
    return (frames - 0.08 * strength).clamp(0, 1)
