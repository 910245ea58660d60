"""The attention is chosen in one place, and compiled layers give what plain ones give."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.utils import counters

from longtake.models import attention, fuse, ltx
from longtake.models.attention import AttentionError, choose, flash, sage, sdpa, trained
from longtake.models.ltx import LTXTransformer
from longtake.models.wan import WanTransformer, tiny
from tests.models.oracles import apart, rand, shuffled


def test_attention_is_a_softmax_and_a_text_of_one_serves_any_batch():
    q, k, v = rand(3, 5, 2, 8, seed=1), rand(1, 7, 2, 8, seed=2), rand(1, 7, 2, 8, seed=3)
    weights = (torch.einsum("blne,amne->bnlm", q, k) / 8**0.5).softmax(-1)
    assert apart(torch.einsum("bnlm,amne->blne", weights, v).flatten(2), sdpa(q, k, v)) < 1e-5


@pytest.mark.parametrize("keys", [7, 600])
@pytest.mark.parametrize("masked", [False, True])
def test_where_a_fused_backward_pass_is_slow_another_way_does_the_same(monkeypatch, keys, masked):
    """In bfloat16 on a CPU, and only if there is something to train: few keys by two products, many in float32."""
    asked = []
    monkeypatch.setattr(attention, "trained", lambda *given: asked.append(1) or trained(*given))
    inputs = [rand(2, 9, 3, 8, seed=1), rand(1, keys, 3, 8, seed=2), rand(1, keys, 3, 8, seed=3)]
    seen = torch.arange(keys).expand(2, -1) < torch.tensor([[keys], [keys // 2]]) if masked else None

    def outcome(dtype, trains):
        q, k, v = (x.to(dtype, copy=True).requires_grad_(trains) for x in inputs)
        out = sdpa(q, k, v, seen)
        return [out, *(torch.autograd.grad(out.square().sum(), (q, k, v)) if trains else ())]

    exact = outcome(torch.float32, True)
    assert not asked and not outcome(torch.bfloat16, False)[0].requires_grad and not asked
    assert all(apart(a, b.float()) < 0.03 for a, b in zip(exact, outcome(torch.bfloat16, True))) and asked
    if masked:
        q, k, v = (x[-1:] for x in (inputs[0], *(t.expand(2, -1, -1, -1)[:, : keys // 2] for t in inputs[1:])))
        assert apart(sdpa(q, k, v), exact[0][1:]) < 1e-5  # what is not seen counts for nothing


def test_what_is_installed_decides(monkeypatch):
    half = torch.bfloat16
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    assert choose("auto", "cuda", half) is choose("auto", "cpu", half) is sdpa
    with pytest.raises(AttentionError, match="sageattention, which is not installed"):
        choose("sage", "cuda", half)
    monkeypatch.setattr(attention, "find_spec", lambda name: name)
    assert choose("auto", "cuda", half) is choose("flash", "cuda", half) is flash
    assert choose("auto", "cuda", torch.float32) is choose("sdpa", "cpu", half) is sdpa
    assert choose("sage", "cuda", half) is sage  # in 8 bits: only if asked for
    for name, device, words in (("flash", "cpu", "needs a GPU"), ("flush", "cuda", "auto, sdpa, flash, sage")):
        with pytest.raises(AttentionError, match=words):
            choose(name, device, half)


def test_other_libraries_get_what_they_expect(monkeypatch):
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


def test_fused_layers_give_the_same_video():
    """Through torch.compile's capture, not its code generator, which takes minutes and bench/speed.py --compile runs."""
    net = shuffled(WanTransformer(tiny(num_layers=1)))
    text, x, level = net.text_memory(rand(1, 5, 10)), rand(1, 4, 4, 4, 4), torch.linspace(0.9, 0.1, 4)
    with torch.inference_mode():
        want = net(x, level, text, blocks=[0, 0, 1, 1], out=[1, 2])
        fuse.fuse(net.blocks, "cpu", backend="eager")
        assert apart(want, net(x, level, text, blocks=[0, 0, 1, 1], out=[1, 2])) < 1e-5


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of what the capture looks at
def test_fused_layers_of_ltx_share_their_code():
    """torch.compile gives up after eight versions of a function: layers must not be told their number, nor their sizes."""
    net = shuffled(LTXTransformer(ltx.tiny(num_layers=10))).requires_grad_(True)
    fuse.fuse(net.blocks, "cpu", backend="eager")
    before = counters["stats"]["unique_graphs"]
    for seed, (batch, tokens, words) in enumerate([(2, 30, 6), (3, 40, 7), (5, 21, 9)]):
        text, level = rand(batch, words, 10, seed=seed), rand(batch, tokens, seed=seed).abs().clamp_max(1)
        rope = net.places(range(tokens), 1, 1, 24.0).expand(batch, -1, -1)
        net.tokens(rand(batch, tokens, 4, seed=seed), level, text, rope).sum().backward()
    assert 0 < counters["stats"]["unique_graphs"] - before <= 4


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(fuse, "which", lambda name: None)
    monkeypatch.setattr(fuse, "find_spec", lambda name: None)
    net = WanTransformer(tiny())
    with pytest.raises(fuse.CompileError, match=r"needs g\+\+"):
        fuse.fuse(net.blocks, "cpu")
    with pytest.raises(fuse.CompileError, match="triton"):
        fuse.fuse(net.blocks, "cuda")
