"""Attached LoRA layers compute what merged ones do, and train alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from longtake.models.checkpoints.loading import WeightsError
from longtake.models.lora.delta import Lora, LoraDelta
from longtake.models.lora.layers import attach, collect, detach, inject, lora_layers, save
from longtake.models.lora.merge import MergedLoras
from longtake.models.lora.write import write
from longtake.models.wan import config as wan_config
from longtake.models.wan import transformer as wan
from longtake.models.wan.layout.lora_names import SVI_TARGETS
from tests.models.lora.helpers import RANK, bits, call, matched, merged, network, pairs, same
from tests.oracles import rand


def test_attached_loras_equal_merged_ones():
    """Also for modules whose weight the network uses itself (time_proj, patch_embedding), several at once."""
    targets = (*SVI_TARGETS, "time_proj", "text_embedder.linear_1", "proj_out")
    with torch.no_grad():
        net, other = network(), network()
        given = [
            Lora(f"l{i}", {f"{n}.weight": LoraDelta(a, b, 2.0) for n, (a, b) in pairs(net, targets, seed=i).items()})
            for i in range(2)
        ]
        patch = LoraDelta(rand(RANK, 4, 1, 2, 2), rand(24, RANK, 1, 1, 1) / 9, 0.5)
        given[0].deltas["patch_embedding.weight"] = patch
        plain = call(net)
        MergedLoras(net).use([(given[0], 0.7), (given[1], -0.4)])
        names = attach(other, given[0], 0.7, "one")
        attach(other, given[1], -0.4, "two")
        assert len(names) == len(given[0].deltas) == len(lora_layers(other))
        a, b = call(net), call(other)
        assert (a - plain).abs().max() > 0.05
        assert (a - b).abs().max() <= 1e-6 * a.abs().max()
        detach(other)
        assert torch.equal(call(other), plain) and same(bits(other), bits(network()))


def test_an_attached_lora_works_on_a_convolution():
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1)).requires_grad_(False)
    low = LoraDelta(rand(2, 3, 3, 3), rand(5, 2, 1, 1), 0.5)
    x, merged_ = rand(1, 3, 6, 6), nn.Sequential(nn.Conv2d(3, 5, 3, padding=1)).requires_grad_(False)
    merged_.load_state_dict(net.state_dict())
    MergedLoras(merged_).use([(Lora("x", {"0.weight": low}), 1.0)])
    attach(net, Lora("x", {"0.weight": low}))
    torch.testing.assert_close(net(x), merged_(x))


def test_a_new_lora_changes_no_output_and_alone_has_gradients():
    net = network().requires_grad_(True)
    with torch.no_grad():
        before = call(net)
    names = inject(net, 4, 8.0, SVI_TARGETS)
    assert names == matched(network())
    with torch.no_grad():
        assert torch.equal(call(net), before)
    for checkpointing in (False, True):
        net.checkpointing = checkpointing
        net.zero_grad()
        call(net).square().sum().backward()
        graded = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.norm() > 0}
        assert graded == {f"{name}.up.default" for name in names}  # down has no gradient while up is 0
    trainable = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trainable == {f"{name}.{side}.default" for name in names for side in ("down", "up")}


def test_training_a_lora_moves_only_the_lora(tmp_path):
    net = network()
    before = bits(net)
    inject(net, 4, 8.0, SVI_TARGETS)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.05)
    losses = []
    for _ in range(4):
        loss = (call(net) - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    with torch.no_grad():
        trained = call(net)
        save(net, tmp_path / "t.safetensors")
        detach(net)
        assert same(bits(net), before)
        merged(net, tmp_path / "t.safetensors", modules=20)
        assert (call(net) - trained).abs().max() <= 2e-6 * trained.abs().max()


def test_the_same_seed_gives_the_same_lora():
    nets = [network() for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2)):
        inject(net, 4, 4.0, ("to_q",), seed=seed)
    assert same(bits(nets[0]), bits(nets[1])) and not same(bits(nets[0]), bits(nets[2]))


def test_a_second_lora_can_be_attached_to_the_same_layers():
    net = network()
    inject(net, 2, 2.0, ("to_q",), name="a")
    inject(net, 3, 3.0, ("to_q", "to_k"), name="b")
    assert {len(collect(net, name).deltas) for name in "ab"} == {4, 8}
    with pytest.raises(WeightsError, match="has a LoRA of that name"):
        inject(net, 2, 2.0, ("to_k",), name="b")


def test_svi_trains_400_modules_of_the_network_of_14b():
    config = wan_config.WanConfig(
        in_channels=36, num_attention_heads=40, num_layers=40, ffn_dim=13824, image_dim=1280, added_kv_proj_dim=5120
    )
    with torch.device("meta"):
        net = wan.WanTransformer(config)
    assert len(inject(net, 128, 128.0, SVI_TARGETS)) == 400
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 613_416_960


def test_impossible_requests_are_refused_with_the_reason():
    net = network()
    whole = Lora("w", {}, {"blocks.0.attn1.to_q.bias": torch.zeros(24)})
    with pytest.raises(
        WeightsError, match="full differences: merge it, since only plain low-rank changes can be attached"
    ):
        attach(net, whole)
    with pytest.raises(WeightsError, match="which PEFT files of a plain LoRA cannot hold"):
        write(whole, "x.safetensors")
    with pytest.raises(
        ValueError,
        match=r"no linear layer's name ends with to_z: the layers are .*blocks\.\*\.ffn\.net\.0\.proj",
    ):
        inject(net, 4, 4.0, ("to_q", "to_z"))
    with pytest.raises(ValueError, match="at least 1"):
        inject(net, 0, 4.0, ("to_q",))
    with pytest.raises(WeightsError, match="no LoRA 'default' is attached"):
        collect(net)
