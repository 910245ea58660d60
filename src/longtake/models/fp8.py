"""Weight matrices kept in 8 bits: float8 e4m3 with a scale for every row, made wide again where they are used.

W ~ scale[row] * Q[row], scale = the row's largest magnitude / 448, the largest number of the format. A number is off by
at most 1/16 of itself (3 bits of mantissa), and by less than 2^-10 of the row's scale where it is tiny. Norms, biases,
embeddings and modulation stay as they are: they are small, and matter more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FORMAT = torch.float8_e4m3fn
MOST = torch.finfo(FORMAT).max


@dataclass(frozen=True)
class Small:
    """The scale (rows, 1) of a matrix that is kept in 8 bits, and the dtype in which it is used."""

    scale: Tensor
    dtype: torch.dtype


def narrow(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix (rows, columns) in 8 bits, and its scale (rows, 1) in float32."""
    full = weight.float()
    scale = full.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / MOST
    return (full / scale).clamp_(-MOST, MOST).to(FORMAT), scale


def wide(narrowed: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo `narrow`, up to its rounding."""
    return (narrowed.float() * scale).to(dtype)


@torch.no_grad()
def small(block: nn.Module, dtype: torch.dtype) -> Mapping[str, Small]:
    """Keep the matrices of the linear layers of a block in 8 bits; the scale of each by its name."""
    kept = {}
    for name, layer in block.named_modules():
        if isinstance(layer, nn.Linear):
            weight = layer.weight
            weight.requires_grad_(False)
            weight.data, scale = narrow(weight.data)
            kept[f"{name}.weight"] = Small(scale, dtype)
    return kept
