"""Colour: the mean chroma of the picture in CIELAB, per contrast.

Up to version 0.1 it was an RGB distance, and in the pocket world of the scenery alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from longtake.metrics.interfaces import Values
from longtake.metrics.segment import Segment

XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = torch.tensor([0.95047, 1.0, 1.08883])  # D65


def chroma(frames: Tensor) -> Tensor:
    """Return CIELAB a and b (T, 2, H, W) of sRGB frames (T, 3, H, W) in [0, 1] (IEC 61966-2-1; CIE 15)."""
    linear = torch.where(frames <= 0.04045, frames / 12.92, ((frames.clamp_min(0) + 0.055) / 1.055) ** 2.4)
    ratio = torch.einsum("tchw,kc->tkhw", linear, XYZ / WHITE[:, None])
    x, y, z = torch.where(ratio > 216 / 24389, ratio.clamp_min(0) ** (1 / 3), (24389 / 27 * ratio + 16) / 116).unbind(1)
    return torch.stack([500 * (x - y), 200 * (y - z)], 1)


def measure(segment: Segment) -> Values:
    """Return the mean a and b over every second frame, and the contrast."""
    a, b = chroma(segment.small[::2]).mean((0, 2, 3)).tolist()
    return a, b, segment.contrast


def drift(now: Values, first: Values) -> float:
    """Return the distance of the mean chroma; chroma grows with contrast, which is no drift of colour."""
    share = now[2] / first[2]
    return math.dist([value / share for value in now[:2]], first[:2])


def plant(frames: Tensor, strength: float) -> Tensor:
    """Tint frames: red rises and blue falls by 0.05 at full strength, at nearly the same luma."""
    return (frames + strength * torch.tensor([0.05, -0.015, -0.05])[:, None, None]).clamp(0, 1)
