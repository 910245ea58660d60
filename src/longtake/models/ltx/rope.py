"""Rotary positions (RoPE) of the LTX transformer: seconds, row and column as shares of the trained range."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

THETA = 10000.0


def rotary(seconds: Sequence[float], rows: Sequence[float], columns: Sequence[float], dim: int) -> Tensor:
    """Return complex RoPE factors (F*H*W, dim/2) of positions given as shares of the range of their axis.

    Channels are ordered by frequency, then by axis; the remainder of a division by six comes first and is not rotated.
    Angles are float32, as published: the highest frequency makes them sensitive to the last bit.
    """
    count, rest = dim // 6, dim % 6
    frequency = THETA ** torch.linspace(0, 1, count, dtype=torch.float32) * math.pi / 2

    def rotations(places: Sequence[float]) -> Tensor:
        angle = frequency * (torch.tensor(places, dtype=torch.float32)[:, None] * 2 - 1)
        return torch.polar(torch.ones_like(angle, dtype=torch.float64), angle.double())

    shape = (len(seconds), len(rows), len(columns), count)
    axes = (rotations(seconds)[:, None, None], rotations(rows)[None, :, None], rotations(columns)[None, None])
    table = torch.stack([axis.expand(shape) for axis in axes], -1).flatten(3).flatten(0, 2)
    return torch.cat((table.new_ones(len(table), rest // 2), table), -1)
