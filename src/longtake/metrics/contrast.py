"""Contrast: how much brightness differs within a frame.

Up to version 0.1 it was that of the pocket world's scenery in blocks of 8 x 8 pixels, without the sprite.
"""

from __future__ import annotations

from torch import Tensor

from longtake.metrics.interfaces import Values, log_ratio
from longtake.metrics.segment import Segment


def measure(segment: Segment) -> Values:
    """Return the standard deviation of luma within a frame, averaged over frames."""
    return (segment.contrast,)


def drift(now: Values, first: Values) -> float:
    """Return the size of the natural logarithm of the ratio."""
    return log_ratio(now[0], first[0], floor=0.01)


def plant(frames: Tensor, strength: float) -> Tensor:
    """Draw frames towards their mean brightness, by a quarter at full strength."""
    middle = frames.mean()
    return middle + (1 - strength / 4) * (frames - middle)
