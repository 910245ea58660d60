"""Merging LoRAs is exact, leaves no trace when undone, and does not depend on their order."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.lora.delta import Lora, LoraDelta
from longtake.models.lora.layers import inject
from longtake.models.lora.merge import MergedLoras
from longtake.models.wan import transformer as wan
from tests.models.lora.helpers import bits, by_hand, loras, network, pairs, same
from tests.oracles import rand


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_removing_loras_restores_the_weights_bit_for_bit(dtype):
    net = network(dtype)
    before, into = bits(net), MergedLoras(net)
    a, b, c = loras(net)
    seen = []
    for chosen in ([(a, 0.8)], [(a, 0.8), (b, -0.5)], [(c, 1.5)], [(b, 1.0), (c, 0.1)], [(a, 0.8)]):
        into.use(chosen)
        assert not same(bits(net), before)
        assert {p.dtype for p in net.parameters()} == {dtype}
        assert {*into.originals} == {name for one, _ in chosen for name in one.deltas}  # nothing else is kept
        seen.append(bits(net))
    assert same(seen[0], seen[-1])  # what was merged before leaves no trace
    into.use([])
    assert same(bits(net), before) and not into.originals


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_order_of_loras_does_not_matter(dtype):
    results = []
    for order in permutations(range(3)):
        net = network(dtype)
        into, given = MergedLoras(net), loras(net)
        for i in range(1, 4):
            into.use([(given[k], 0.3 + k) for k in order[:i]])
        results.append(bits(net))
    assert all(same(results[0], other) for other in results[1:])


def test_bfloat16_weights_are_rounded_once():
    net = network(torch.bfloat16)
    low = pairs(net)
    want = {name: w.to(torch.bfloat16) for name, w in by_hand(net, low, 0.9, 2.0).items()}
    MergedLoras(net).use([(Lora("x", {f"{n}.weight": LoraDelta(a, b, 2.0) for n, (a, b) in low.items()}), 0.9)])
    have = bits(net)
    off = sum((have[k] != want[k]).sum() for k in have) / sum(w.numel() for w in have.values())
    assert off < 1e-3  # only where float32 falls on the other side of a tie


def test_merging_in_inference_leaves_weights_that_can_be_trained():
    net = network()
    with torch.inference_mode():
        MergedLoras(net).use([(loras(net)[0], 1.0)])
    net.requires_grad_(True)
    net(rand(1, 4, 2, 4, 4), torch.tensor(0.5), rand(1, 3, 10)).sum().backward()
    assert net.blocks[0].attn1.to_q.weight.grad.norm() > 0


def test_the_checkpoint_file_is_never_written_to(tmp_path):
    weights.save(network(), network().config, tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    before = file.read_bytes()
    net = wan.load(tmp_path)
    pointers = {name: p.data_ptr() for name, p in net.named_parameters()}
    into = MergedLoras(net)
    into.use([(loras(net)[0], 1.0)])
    assert file.read_bytes() == before
    into.use([])
    assert pointers == {name: p.data_ptr() for name, p in net.named_parameters()}  # on a CPU nothing is copied


def test_merging_into_a_network_with_attached_loras_is_refused():
    net = network()
    given = loras(net)[0]
    inject(net, 4, 4.0, ("to_q",))
    with pytest.raises(WeightsError, match="detach its LoRA layers first"):
        MergedLoras(net).use([(given, 1.0)])
