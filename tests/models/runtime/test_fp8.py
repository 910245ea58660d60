"""Float8 weights are within their stated error."""

from __future__ import annotations

import torch

from longtake.models.runtime import fp8
from tests.oracles import apart


def test_a_float8_matrix_is_within_a_sixteenth_of_each_weight():
    torch.manual_seed(0)
    weight = torch.randn(64, 256) * torch.logspace(-6, 3, 64)[:, None]
    weight[3] = 0
    quantized, scale = fp8.quantize(weight)
    again = fp8.dequantize(quantized, scale, torch.float32)
    assert quantized.dtype == torch.float8_e4m3fn and scale.shape == (64, 1)
    assert ((again - weight).abs() <= weight.abs() / 16 + scale * 2**-10).all()
    assert 0.01 < apart(weight, again) < 0.03
    assert again[3].abs().sum() == 0
    whole = fp8.dequantize(*fp8.quantize(weight / weight.abs().amax()), torch.float32)
    assert torch.isfinite(whole).all()
