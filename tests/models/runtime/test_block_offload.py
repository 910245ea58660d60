"""Streaming blocks one by one changes no number, and keeps at most two blocks on the device."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from longtake.models.checkpoints.loading import WeightsError
from longtake.models.lora.delta import Lora, LoraDelta
from longtake.models.lora.merge import MergedLoras
from longtake.models.runtime import fp8
from longtake.models.runtime.block_offload import StreamedBlocks
from longtake.models.wan.config import tiny
from longtake.models.wan.transformer import WanTransformer
from tests.oracles import apart, rand, shuffled

CONFIG = tiny(num_layers=5, attention_head_dim=24)


class CountingTransfer:
    """A Transfer to a pretended device: it copies tensors, and counts copies as long as anything refers to them."""

    def __init__(self):
        self.copies, self.most, self.started, self.waited = [], 0, 0, []

    def start(self, tensors):
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        self.copies.append([weakref.ref(copy.untyped_storage()) for copy in copies.values()])
        self.started += 1
        self.most = max(self.most, self.alive)
        return copies

    @property
    def alive(self):
        return sum(any(copy() is not None for copy in copies) for copies in self.copies)

    def wait(self, started):
        return started

    def record(self):
        return self.started

    def synchronize(self, mark):
        self.waited.append(mark)


def run(net, seed=1):
    """Use all entries of a network: velocity, keys and values of frames, and of a prompt."""
    x, sigma, text = rand(1, 4, 3, 4, 4, seed=seed), torch.tensor([0.0, 0.4, 0.9]), rand(1, 5, 10)
    with torch.inference_mode():
        memory = net.text_kv(text)
        kept = net.frame_kv(x, sigma, memory)
        return [net(x, sigma, memory), *kept.keys, *kept.values, *(part for layer in memory.layers for part in layer)]


def test_streamed_blocks_compute_the_same():
    net, far = shuffled(WanTransformer(CONFIG)), CountingTransfer()
    expected, names = run(net), list(net.state_dict())
    stored = [weight.data_ptr() for weight in net.parameters()]
    net.blocks = StreamedBlocks(net.blocks, far)
    for one, other in zip(run(net), expected, strict=True):
        assert torch.equal(one, other)
    assert far.started == 3 * CONFIG.num_layers, "three passes, each block once"
    assert far.most == 2, "the block that computes and the next one"
    assert far.waited, "otherwise the host would copy block after block"
    gc.collect()
    assert far.alive == 0 and [weight.data_ptr() for weight in net.parameters()] == stored
    assert list(net.state_dict()) == names


def test_an_abandoned_pass_returns_all_weights_to_storage():
    net, far = shuffled(WanTransformer(CONFIG)), CountingTransfer()
    stored = [weight.data_ptr() for weight in net.parameters()]
    net.blocks = StreamedBlocks(net.blocks, far)
    for at, _ in enumerate(net.blocks):
        if at == 2:
            break
    gc.collect()
    assert [weight.data_ptr() for weight in net.parameters()] == stored and far.alive == 0
    broken = rand(1, 4, 3, 4, 4), torch.zeros(2), rand(1, 5, 10)  # noise levels for other frames
    with pytest.raises(RuntimeError):
        net(*broken)
    gc.collect()
    assert [weight.data_ptr() for weight in net.parameters()] == stored


def test_float8_blocks_stay_near_the_network_and_only_matrices_are_float8():
    net, far = shuffled(WanTransformer(CONFIG)).bfloat16(), CountingTransfer()
    expected = run(net)
    net.blocks = StreamedBlocks(net.blocks, far)
    net.blocks.quantize()
    kinds = {name: weight.dtype for name, weight in net.named_parameters()}
    small = {name for name, dtype in kinds.items() if dtype == torch.float8_e4m3fn}
    assert small == {n for n, w in net.named_parameters() if n.startswith("blocks.") and n.endswith("weight")
                     and w.ndim == 2}  # fmt: skip
    assert not any(word in name for name in small for word in ("norm", "bias", "table", "embed"))
    assert 0.001 < apart(expected[0].float(), run(net)[0].float()) < 0.1
    gc.collect()
    assert far.alive == 0 and {name: weight.dtype for name, weight in net.named_parameters()} == kinds


def test_loras_are_added_to_dequantised_matrices():
    """They are added in float32; rounding to 8 bits would lose them."""
    net = shuffled(WanTransformer(CONFIG))
    query, bias = "attn1.to_q.weight", rand(len(net.blocks[1].attn1.to_q.bias), seed=4)
    rows, columns = net.blocks[0].attn1.to_q.weight.shape
    low = LoraDelta(rand(2, columns, seed=1), 1e-3 * rand(rows, 2, seed=2), 0.5)
    lora = Lora("style", {f"blocks.0.{query}": low}, {"blocks.1.attn1.to_q.bias": bias})
    streamed = StreamedBlocks(net.blocks, CountingTransfer())
    streamed.quantize()
    plain = {name: weight.clone() for name, weight in net.named_parameters()}
    by_hand = {f"{at}.{name}": fp8.dequantize(dict(block.named_parameters())[name], kept.scale, torch.float32)
               for at, block in enumerate(streamed.blocks) for name, kept in streamed.fp8[at].items()}  # fmt: skip
    net.blocks = streamed
    merged = MergedLoras(net)
    for strength in (0.8, -2.0):
        merged.use([(lora, strength)])
        for at, block in enumerate(streamed):
            seen = dict(block.named_parameters())
            for name in streamed.fp8[at]:
                change = strength * low.delta(seen[name]) if (at, name) == (0, query) else 0.0
                assert torch.allclose(seen[name], by_hand[f"{at}.{name}"] + change, atol=1e-7)
            if at == 1:
                assert torch.allclose(seen["attn1.to_q.bias"], plain["blocks.1.attn1.to_q.bias"] + strength * bias)
    merged.use([])
    assert not streamed.deltas
    assert all(torch.equal(weight.float(), plain[name].float()) for name, weight in net.named_parameters())
    whole = Lora("whole", {}, {f"blocks.0.{query}": torch.ones(rows, columns)})
    with pytest.raises(WeightsError, match="leave --fp8 out"):
        merged.use([(whole, 1.0)])
