"""Sharpness: how steep the steepest edges are, per contrast. Noise hardly changes them, blur does.

Up to version 0.1 it was the mean gradient of the pocket world's scenery, which noise raised too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from longtake.metrics.interfaces import Values, log_ratio
from longtake.metrics.segment import Segment

STEEPEST = 0.01  # share of the pixels that count as edges


def measure(segment: Segment) -> Values:
    """Return the mean gradient of the steepest 1 % of the pixels, divided by contrast."""
    light = segment.centre
    if min(light.shape[1:]) < 2:
        return (0.0,)
    across, down = light.diff(dim=2)[:, :-1], light.diff(dim=1)[:, :, :-1]
    steepness = (across.square() + down.square()).sqrt().flatten(1)
    return (float(steepness.topk(math.ceil(STEEPEST * steepness.shape[1]), 1).values.mean()) / segment.contrast,)


def blur(frames: Tensor, sigma: float) -> Tensor:
    """Blur frames (T, 3, H, W) with a Gaussian of standard deviation sigma, in pixels."""
    if sigma == 0:
        return frames
    reach = math.ceil(3 * sigma)
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weight = (weight / weight.sum()).expand(3, 1, 1, -1)
    wide = conv2d(pad(frames, (reach, reach, 0, 0), mode="replicate"), weight, groups=3)
    return conv2d(pad(wide, (0, 0, reach, reach), mode="replicate"), weight.transpose(2, 3), groups=3)


def drift(now: Values, first: Values) -> float:
    """Return the size of the natural logarithm of the ratio."""
    return log_ratio(now[0], first[0], floor=0.05)


def plant(frames: Tensor, strength: float) -> Tensor:
    """Blur frames, with a Gaussian of 0.9 pixels at full strength."""
    return blur(frames, 0.9 * strength)
