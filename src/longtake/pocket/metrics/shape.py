"""Shape: how well the sprite of the pocket world still has the shape it began with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from longtake.metrics.interfaces import Values
from longtake.metrics.segment import Segment
from longtake.pocket.facts import SHAPES
from longtake.pocket.judge import background, find_sprite, follow_sprite, overlap_with
from longtake.pocket.metrics.sprite import LOST, clear_of, track
from longtake.pocket.scenery import SIDE, X


def measure(segment: Segment) -> Values:
    """Return the overlap of the sprite with the best template of every shape; nothing if there is no sprite."""
    found = segment.once(track)
    return tuple(overlap_with(found.masks[::4], shape) for shape in SHAPES) if found else ()


def drift(now: Values, first: Values) -> float:
    """Return how much less the sprite overlaps the shape it began with; 0 if there never was a sprite to lose."""
    if not first:
        return 0.0
    return max(0.0, max(first) - now[first.index(max(first))]) if now else LOST


def plant(frames: Tensor, strength: float) -> Tensor:
    """Cut the sprite off from its right side on, to two thirds of its width at full strength; the scenery shows in its place."""
    sprite = find_sprite(frames)[1].float()
    found = follow_sprite(sprite, 1)
    middle = torch.atan2(*((sprite * wave(math.pi * X)).sum((1, 2)) for wave in (torch.sin, torch.cos))) / math.pi
    radius = (found.area.mean() / math.pi).sqrt() / (SIDE / 2)
    across = (X - middle[:, None, None] + 1) % 2 - 1
    cut = (1 - clear_of(sprite)) * (across > radius * (2 - 1.48 * strength))[:, None]
    return torch.where(cut > 0, background(frames), frames)
