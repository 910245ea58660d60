"""Motion: how fast the coarse picture changes, per contrast, so that neither grain nor flicker count.

Up to version 0.1 it was the change from frame to frame per mean gradient, which flicker raised too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from longtake.metrics.interfaces import Values, log_ratio
from longtake.metrics.segment import Segment

COARSE = 16  # pixels of the shorter side
RATE = 12  # comparisons in a second: motion adds up between them, and grain does not


def measure(segment: Segment) -> Values:
    """Return the mean absolute change of luma in a second, less that of the whole frame, divided by contrast."""
    step = max(1, round(segment.fps / RATE))
    if len(segment.frames) <= step:
        return (0.0,)
    height, width = segment.luma.shape[1:]
    scale = min(1.0, COARSE / min(height, width))
    light = adaptive_avg_pool2d(segment.luma, (max(1, round(height * scale)), max(1, round(width * scale))))
    shape = light - light.mean((1, 2), keepdim=True)
    change = (shape[step:] - shape[:-step]).abs().mean()
    return (float(change) * segment.fps / step / segment.contrast,)


def drift(now: Values, first: Values) -> float:
    """Return the size of the natural logarithm of the ratio."""
    return log_ratio(now[0], first[0], floor=0.05)


def plant(frames: Tensor, strength: float) -> Tensor:
    """Slow frames down around the middle of the clip, to less than half of their speed at full strength, in the same length."""
    middle = len(frames) / 2
    return frames[(middle + (torch.arange(len(frames)) - middle) / (1 + 1.2 * strength)).long()]
