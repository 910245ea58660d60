"""Identity: how the sprite of the pocket world differs in colour from the scenery behind it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from longtake.metrics.interfaces import Values
from longtake.metrics.segment import Segment, luma
from longtake.pocket.facts import COLOURS
from longtake.pocket.judge import find_sprite
from longtake.pocket.metrics.sprite import LOST, clear_of, erode, every_second, mask, track


def measure(segment: Segment) -> Values:
    """Return the sprite's mean chroma (RGB less luma) minus the scenery's, and the contrast of the scenery's large forms.

    Nothing if there is no sprite.
    """
    if segment.once(track) is None:
        return ()
    frames, sprite = segment.once(every_second), segment.once(mask)
    light = luma(frames)[:, None]
    chroma, clear = frames - light, clear_of(sprite)
    difference = weighted(chroma, erode(sprite)) - weighted(chroma, clear)
    return *difference.tolist(), contrast(light, clear)


def drift(now: Values, first: Values) -> float:
    """Return how far the difference has moved; it grows with contrast, which is no drift of identity."""
    if not first:
        return 0.0
    if not now:
        return LOST
    share = max(now[3], 1e-6) / max(first[3], 1e-6)
    return math.dist([value / share for value in now[:3]], first[:3])


def weighted(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean (3,) of values (V, 3, S, S) where weight (V, 1, S, S) is."""
    return (values * weight).sum((0, 2, 3)) / weight.sum().clamp_min(1e-6)


def contrast(light: Tensor, clear: Tensor) -> float:
    """Return how much 8 x 8 blocks of luma (V, 1, S, S) differ within a frame, where it is clear of the sprite."""
    share = avg_pool2d(clear, 8)
    blocks = avg_pool2d(light * clear, 8) / share.clamp_min(1e-3)
    weight = (share > 0.5).float()
    count = weight.sum((2, 3), keepdim=True).clamp_min(1)
    mean = (blocks * weight).sum((2, 3), keepdim=True) / count
    return float((((blocks - mean) ** 2 * weight).sum((2, 3), keepdim=True) / count).sqrt().mean())


def plant(frames: Tensor, strength: float) -> Tensor:
    """Move the sprite's colour 0.12 towards the next one of the palette; the scenery stays."""
    name, sprite = find_sprite(frames)
    own = torch.tensor(COLOURS[name])
    others = torch.stack([torch.tensor(colour) - own for other, colour in COLOURS.items() if other != name])
    step = others[others.norm(dim=1).argmin()]
    return (frames + 0.12 * strength * sprite[:, None] * (step / step.norm())[:, None, None]).clamp(0, 1)
