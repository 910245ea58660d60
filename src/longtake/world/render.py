"""Drawing: a clip of the pocket world to frames, and where the sprite is in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.world.clip import Clip, State
from longtake.world.facts import SCENERIES, SHAPES
from longtake.world.motion import Array
from longtake.world.scenery import DRAW, X, Y, cover, paint
from longtake.world.shapes import FIELDS

OUTLINE = (0.10, 0.10, 0.13)
BORDER = 0.05  # units of dark outline around a sprite, so that white is seen on snow


@dataclass(frozen=True)
class Picture:
    """frames (T, 3, S, S) in [0, 1]; sprite (T, S, S), how much of each pixel the sprite and its outline cover."""

    frames: Tensor
    sprite: Tensor


def render(clip: Clip, start: int, stop: int) -> Picture:
    """Frames start..stop-1 of a clip. Any part of a clip looks as it does in the whole."""
    state = clip.state(start, stop)
    image = _background(clip.camera, state)
    distance, down = _distance(state)
    outline = cover(distance - BORDER)
    shade = (1 - 0.10 * (down / _column(state.radius)).clamp(-1, 1))[:, None]
    colour = torch.from_numpy(state.colour).float()[:, :, None, None] * shade
    frames = paint(paint(image, OUTLINE, outline), colour.clamp(0, 1), cover(distance))
    return Picture(frames.clamp(0, 1), outline)


def _background(camera: float, state: State) -> Tensor:
    """The scenery of each frame (T, 3, S, S), cross-faded where it changes."""
    seconds = torch.from_numpy(state.seconds).float()
    shown = [k for k in range(len(SCENERIES)) if state.sceneries[:, k].any()]
    weights = torch.from_numpy(state.sceneries).float()
    layers = [weights[:, k, None, None, None] * DRAW[SCENERIES[k]](camera, seconds) for k in shown]
    return torch.stack(layers).sum(0)


def _distance(state: State) -> tuple[Tensor, Tensor]:
    """Signed distance to the sprite (T, S, S), morphed where the shape changes, and how far below its centre a pixel is."""
    across = (X - _column(state.x) + 1) % 2 - 1
    down = (Y - _column(state.y) + 1) % 2 - 1
    sine, cosine = torch.sin(_column(state.angle)), torch.cos(_column(state.angle))
    u, v = across * cosine + down * sine, down * cosine - across * sine
    fields = [
        _column(state.shapes[:, k]) * FIELDS[name](u, v, _column(state.radius))
        for k, name in enumerate(SHAPES)
        if state.shapes[:, k].any()
    ]
    return torch.stack(fields).sum(0), down


def _column(values: Array) -> Tensor:
    """(T,) numbers as a (T, 1, 1) tensor."""
    return torch.from_numpy(values).float().view(-1, 1, 1)
