"""What the transformers of all families have in common: precision, gradients, a new network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.models.layers import TanhGelu
from longtake.models.ltx import config as ltx
from longtake.models.wan import config as wan
from longtake.train.weights.families import hooks_of, training_hooks
from tests.oracles import apart, rand, shuffled


@dataclass(frozen=True)
class Case:
    """A tiny network. text: width of a text embedding. more: arguments of its training calls."""

    config: Callable[..., Any]
    text: str
    more: dict[str, Any] = field(default_factory=dict)


CASES = {
    "ltx": Case(ltx.tiny, "caption_channels"),
    "wan": Case(wan.tiny, "text_dim", dict(blocks=[0, 0, 1, 1, 2])),
}


@pytest.fixture(params=CASES)
def net(request) -> nn.Module:
    """A tiny network with random weights."""
    return shuffled(training_hooks(request.param).transformer.make(CASES[request.param].config()))


@pytest.fixture
def case(request, net) -> Case:
    """The case of the network."""
    return next(case for case in CASES.values() if isinstance(net.config, type(case.config())))


@pytest.fixture
def inputs(net, case) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, C, F, h, w), sigma (B, F), text (B, L, D)."""
    sigma = torch.rand(2, 5, generator=torch.Generator().manual_seed(2))
    return rand(2, net.config.in_channels, 5, 4, 6), sigma, rand(2, 7, getattr(net.config, case.text), seed=3)


def test_checkpointing_changes_no_gradient(net, case, inputs):
    net.requires_grad_(True)
    grads = []
    for net.checkpointing in (False, True):
        net.zero_grad()
        net(*inputs, **case.more).square().mean().backward()
        assert all(p.grad is not None and p.grad.any() for p in net.parameters())
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert apart(*grads) < 1e-6


def test_inference_leaves_nothing_that_training_cannot_use(net, inputs):
    with torch.inference_mode():
        net(*inputs)
    net.requires_grad_(True)
    net(*inputs).sum().backward()
    assert net.blocks[0].attn1.to_q.weight.grad.norm() > 0


def test_half_precision_weights(net, inputs):
    want = net(*inputs)
    got = net.to(torch.bfloat16)(*inputs)
    assert got.dtype == torch.bfloat16
    assert apart(want, got.float()) < 0.05


def test_a_new_network_predicts_nothing(net, inputs):
    hooks_of(net).transformer.initialise(net)
    assert not net(*inputs).any()


def test_gelu_is_the_same_with_and_without_gradients():
    x = 6 * rand(1000, dtype=torch.float64)
    with torch.no_grad():
        fast = TanhGelu()(x)
    assert apart(TanhGelu()(x), fast) < 1e-14
