"""Rotary positions (RoPE) of the Wan transformer: time, row and column share the channels of a head."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary(positions_F: Tensor, height: int, width: int, head: int) -> Tensor:
    """Return RoPE factors (F*height*width, head/2, 2), cosine and sine: time first, then row, then column.

    Positions may be any real numbers.
    """

    def rotation(position: Tensor, dim: int) -> Tensor:
        frequency = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = position.double()[:, None] * frequency
        return torch.polar(torch.ones_like(angle), angle)

    space = 2 * (head // 6)
    shape = (len(positions_F), height, width, -1)
    parts = (
        rotation(positions_F, head - 2 * space)[:, None, None].expand(shape),
        rotation(torch.arange(height), space)[None, :, None].expand(shape),
        rotation(torch.arange(width), space)[None, None, :].expand(shape),
    )
    return torch.view_as_real(torch.cat(parts, -1).flatten(0, 2))
