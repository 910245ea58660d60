"""Attention backends: equal results, chosen by name and by what is installed."""

import sys
from types import SimpleNamespace

import pytest
import torch

from longtake.models.runtime import attention
from longtake.models.runtime.attention import (
    AttentionError,
    bfloat16_training_attention,
    choose_attention,
    flash,
    sage,
    sdpa,
)
from longtake.models.wan.config import tiny
from longtake.models.wan.transformer import WanTransformer
from tests.oracles import apart, rand, shuffled


def test_sdpa_is_softmax_attention_and_expands_keys_of_one_video():
    q, k, v = rand(3, 5, 2, 8, seed=1), rand(1, 7, 2, 8, seed=2), rand(1, 7, 2, 8, seed=3)
    weights = (torch.einsum("blne,amne->bnlm", q, k) / 8**0.5).softmax(-1)
    assert apart(torch.einsum("bnlm,amne->blne", weights, v).flatten(2), sdpa(q, k, v)) < 1e-5


@pytest.mark.parametrize("keys", [7, 600])
@pytest.mark.parametrize("mcalls", [False, True])
def test_bfloat16_training_on_a_cpu_gives_the_same_gradients(monkeypatch, keys, mcalls):
    """It is used only with gradients: few keys by two matrix products, many in float32."""
    calls = []
    monkeypatch.setattr(
        attention,
        "bfloat16_training_attention",
        lambda *arguments: calls.append(1) or bfloat16_training_attention(*arguments),
    )
    inputs = [rand(2, 9, 3, 8, seed=1), rand(1, keys, 3, 8, seed=2), rand(1, keys, 3, 8, seed=3)]
    seen = torch.arange(keys).expand(2, -1) < torch.tensor([[keys], [keys // 2]]) if mcalls else None

    def outcome(dtype, trains):
        q, k, v = (x.to(dtype, copy=True).requires_grad_(trains) for x in inputs)
        out = sdpa(q, k, v, seen)
        return [out, *(torch.autograd.grad(out.square().sum(), (q, k, v)) if trains else ())]

    exact = outcome(torch.float32, True)
    assert not calls and not outcome(torch.bfloat16, False)[0].requires_grad and not calls
    assert all(apart(a, b.float()) < 0.03 for a, b in zip(exact, outcome(torch.bfloat16, True))) and calls
    if mcalls:
        q, k, v = (x[-1:] for x in (inputs[0], *(t.expand(2, -1, -1, -1)[:, : keys // 2] for t in inputs[1:])))
        assert apart(sdpa(q, k, v), exact[0][1:]) < 1e-5  # mcalls keys have no weight


def test_auto_picks_the_best_installed_backend(monkeypatch):
    half = torch.bfloat16
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    assert choose_attention("auto", "cuda", half) is choose_attention("auto", "cpu", half) is sdpa
    with pytest.raises(AttentionError, match="sageattention, which is not installed"):
        choose_attention("sage", "cuda", half)
    monkeypatch.setattr(attention, "find_spec", lambda name: name)
    assert choose_attention("auto", "cuda", half) is choose_attention("flash", "cuda", half) is flash
    assert choose_attention("auto", "cuda", torch.float32) is choose_attention("sdpa", "cpu", half) is sdpa
    assert choose_attention("sage", "cuda", half) is sage  # in 8 bits: only if calls for
    for name, device, words in (("flash", "cpu", "needs a GPU"), ("flush", "cuda", "auto, sdpa, flash, sage")):
        with pytest.raises(AttentionError, match=words):
            choose_attention(name, device, half)


def test_flash_and_sage_are_called_in_their_own_layout(monkeypatch):
    """Stand-ins with the layouts of flash-attn and SageAttention, which are batch, length, heads, width."""
    calls = []

    def stand_in(q, k, v, tensor_layout="NHD"):
        calls.append(tensor_layout)
        return sdpa(q, k, v).unflatten(2, q.shape[2:])

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_func=stand_in))
    monkeypatch.setitem(sys.modules, "sageattention", SimpleNamespace(sageattn=stand_in))
    net = shuffled(WanTransformer(tiny()))
    x, text = rand(2, 4, 4, 4, 4), rand(1, 5, 10)
    want = net(x, torch.tensor(0.5), text)
    for net.attend in (flash, sage):
        assert apart(want, net(x, torch.tensor(0.5), text)) < 1e-6
    assert len(calls) == 2 * 2 * 2  # two backends, two layers, frames and text
