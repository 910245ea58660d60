"""Weight matrices stored as float8 with one scale per row, and dequantised where they are used.

W ~ scale[row] * Q[row], with scale = the row's largest magnitude / 448, the largest number of e4m3. A weight is off by at
most 1/16 of itself (3 bits of mantissa), or by less than 2^-10 of the row's scale where it is tiny. Matrices that a file
holds in float8 keep the file's numbers and scale. Norms, biases, embeddings and modulation tables keep their dtype: they
are small, and errors in them weigh more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from longtake.models.checkpoints.quantised import FORMAT, Fp8Parameter, Fp8Weight, dequantize, quantize

__all__ = ["FORMAT", "Fp8Weight", "dequantize", "quantize", "quantize_linear"]


@torch.no_grad()
def quantize_linear(block: nn.Module) -> Mapping[str, Fp8Weight]:
    """Replace the weights of all linear layers of a block by float8; return the scale of each by parameter name."""
    scales = {}
    for name, layer in block.named_modules():
        if isinstance(layer, nn.Linear):
            weight = layer.weight
            if isinstance(weight, Fp8Parameter):  # as the file holds it
                scales[f"{name}.weight"] = weight.stored
                continue
            dtype = weight.dtype
            weight.requires_grad_(False)
            weight.data, scale = quantize(weight.data)
            scales[f"{name}.weight"] = Fp8Weight(scale, dtype)
    return scales
