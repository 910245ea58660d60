"""torch.compile on the blocks of a network."""

import pytest
import torch
from torch._dynamo.utils import counters

from longtake.models.ltx import config as ltx
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.runtime import compile
from longtake.models.runtime.compile import CompileError, compile_blocks
from longtake.models.wan.config import tiny
from longtake.models.wan.transformer import WanTransformer
from tests.oracles import apart, rand, shuffled


def test_compiled_blocks_compute_the_same():
    """With torch.compile's graph capture; bench/speed.py --compile runs the code generator, which takes minutes."""
    net = shuffled(WanTransformer(tiny(num_layers=1)))
    text, x, sigma = net.text_kv(rand(1, 5, 10)), rand(1, 4, 4, 4, 4), torch.linspace(0.9, 0.1, 4)
    with torch.inference_mode():
        want = net(x, sigma, text, blocks=[0, 0, 1, 1], out=[1, 2])
        compile_blocks(net.blocks, "cpu", backend="eager")
        assert apart(want, net(x, sigma, text, blocks=[0, 0, 1, 1], out=[1, 2])) < 1e-5


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # from the graph capture
def test_compiled_blocks_of_ltx_share_their_graphs():
    """torch.compile gives up after eight graphs of a function, so no graph may depend on a block's index or on sizes."""
    net = shuffled(LTXTransformer(ltx.tiny(num_layers=10))).requires_grad_(True)
    compile_blocks(net.blocks, "cpu", backend="eager")
    before = counters["stats"]["unique_graphs"]
    for seed, (batch, tokens, words) in enumerate([(2, 30, 6), (3, 40, 7), (5, 21, 9)]):
        text, sigma = rand(batch, words, 10, seed=seed), rand(batch, tokens, seed=seed).abs().clamp_max(1)
        rope = net.rope_table(range(tokens), 1, 1, 24.0).expand(batch, -1, -1)
        net.tokens(rand(batch, tokens, 4, seed=seed), sigma, text, rope).sum().backward()
    assert 0 < counters["stats"]["unique_graphs"] - before <= 4


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(compile, "which", lambda name: None)
    monkeypatch.setattr(compile, "find_spec", lambda name: None)
    net = WanTransformer(tiny())
    with pytest.raises(CompileError, match=r"needs g\+\+"):
        compile_blocks(net.blocks, "cpu")
    with pytest.raises(CompileError, match="triton"):
        compile_blocks(net.blocks, "cuda")
