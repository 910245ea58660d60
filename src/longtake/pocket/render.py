"""The renderer: frames of a clip of the pocket world, and the pixels that the sprite covers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from longtake.pocket.clip import Clip, State
from longtake.pocket.facts import SCENERIES, SHAPES
from longtake.pocket.motion import Array
from longtake.pocket.scenery import DRAW, SIDE, Canvas, paint
from longtake.pocket.sprites import FIELDS

OUTLINE = (0.10, 0.10, 0.13)
BORDER = 0.05  # width of the dark outline of a sprite in units, so that white shows up on snow


@dataclass(frozen=True)
class Picture:
    """Rendered frames (T, 3, H, W) in [0, 1], and the share of each pixel that sprite and outline cover, (T, H, W)."""

    frames: Tensor
    sprite: Tensor


def render(clip: Clip, start: int, stop: int, size: tuple[int, int] = (SIDE, SIDE)) -> Picture:
    """Render the frames start..stop-1 of a clip at (height, width). Any part of a clip equals the same part of the whole.

    A screen that is not square shows more of the world along its longer side, and wraps that much later.
    """
    canvas = Canvas(*size)
    state = replace(clip, reach=canvas.reach).state(start, stop)
    image = _background(clip.camera, state, canvas)
    distance, down = _distance(state, canvas)
    outline = canvas.cover(distance - BORDER)
    shade = (1 - 0.10 * (down / _column(state.radius)).clamp(-1, 1))[:, None]
    colour = torch.from_numpy(state.colour).float()[:, :, None, None] * shade
    frames = paint(paint(image, OUTLINE, outline), colour.clamp(0, 1), canvas.cover(distance))
    return Picture(frames.clamp(0, 1), outline)


def _background(camera: float, state: State, canvas: Canvas) -> Tensor:
    """Return the scenery of each frame (T, 3, H, W), cross-faded where it changes."""
    seconds = torch.from_numpy(state.seconds).float()
    shown = [k for k in range(len(SCENERIES)) if state.sceneries[:, k].any()]
    weights = torch.from_numpy(state.sceneries).float()
    layers = [weights[:, k, None, None, None] * DRAW[SCENERIES[k]](camera, seconds, canvas) for k in shown]
    return torch.stack(layers).sum(0)


def _distance(state: State, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Return the signed distance to the sprite, morphed where its shape changes, and the distance below its centre (T, H, W)."""
    wide, tall = canvas.reach
    across = (canvas.x - _column(state.x) + wide) % (2 * wide) - wide
    down = (canvas.y - _column(state.y) + tall) % (2 * tall) - tall
    sine, cosine = torch.sin(_column(state.angle)), torch.cos(_column(state.angle))
    u, v = across * cosine + down * sine, down * cosine - across * sine
    fields = [
        _column(state.shapes[:, k]) * FIELDS[name](u, v, _column(state.radius))
        for k, name in enumerate(SHAPES)
        if state.shapes[:, k].any()
    ]
    return torch.stack(fields).sum(0), down


def _column(values: Array) -> Tensor:
    """Return numbers (T,) as a (T, 1, 1) tensor."""
    return torch.from_numpy(values).float().view(-1, 1, 1)
