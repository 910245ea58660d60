"""Weights, gradients and optimiser memory laid out over ranks by FSDP2 (ZeRO-2 and ZeRO-3), and the averaged weights.

ZeRO-2 keeps the whole weights from the forward to the backward pass, ZeRO-3 gathers them anew: less memory, more
messages. Neither changes what is computed: the same code runs on one process, where nothing is laid out at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from longtake.train.config import ConfigError
from longtake.train.ranks import agree, local, ranks

Shard = Literal["none", "zero2", "zero3"]


class Loss(NamedTuple):
    """A loss that knows its weight: batches of a step then count by weight. total: (), sum of weighted errors."""

    total: Tensor
    weight: Tensor | float


class GivesLosses(Protocol):
    """The part of a recipe that is needed here."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    def loss(self, step: int, rng: torch.Generator) -> Tensor | Loss:
        """The loss of a batch."""


class Step(nn.Module):
    """A recipe's loss as the forward pass of a module, which is where FSDP gathers weights and scatters gradients."""

    def __init__(self, recipe: GivesLosses):
        super().__init__()
        self.trained = recipe.module
        self._loss = recipe.loss

    @property
    def shared(self) -> bool:
        """Whether the weights are laid out over ranks."""
        return hasattr(self, "unshard")

    def forward(self, step: int, rng: torch.Generator) -> Loss:
        with warnings.catch_warnings():
            # layers return views of keys and values; nothing is written into them afterwards
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
            loss = self._loss(step, rng)
        return loss if isinstance(loss, Loss) else Loss(loss, 1.0)


def make_step(recipe: GivesLosses, shard: Shard, dtype: torch.dtype) -> Step:
    """The loss of a recipe, its weights laid out over the ranks if shard says so and there are several.

    Layers are gathered one by one if the recipe is `uniform`, that is, if all its batches make the same calls of the
    network: the ranks must gather together. Otherwise all weights are gathered once a step; zero3 is then refused.
    dtype: what layers compute in; they are gathered in it, while pieces and sums of gradients stay in float32.
    """
    step = Step(recipe)
    if shard == "none" or ranks()[1] == 1:
        return step
    layers = blocks(step.trained)
    uniform = bool(getattr(recipe, "uniform", False))
    if shard == "zero3" and layers and not uniform:
        raise ConfigError(
            'shard = "zero3" gathers layers call by call, so that all processes must make the same calls, but batches of '
            'this recipe differ in them: use shard = "zero2"'
        )
    _lay_out(step, layers if uniform else [], shard == "zero3", dtype)
    return step


def _lay_out(step: Step, layers: list[nn.Module], again: bool, dtype: torch.dtype) -> None:
    """again: gather weights anew for the backward pass."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(next(step.parameters()).device.type, (ranks()[1],))
    policy = MixedPrecisionPolicy()
    if dtype != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=again, mp_policy=policy)
        for name in getattr(layer, "entries", ()):
            register_fsdp_forward_method(layer, name)
    fully_shard(step, mesh=mesh, reshard_after_forward=again)


def blocks(module: nn.Module) -> list[nn.Module]:
    """The layers of every network that can recompute them (it has a switch `checkpointing`).

    If others than their network call methods of theirs besides forward, their class names these in `entries`.
    """
    lists = [child for net in recomputing(module) for child in net.children() if isinstance(child, nn.ModuleList)]
    return [block for layers in lists for block in layers]


def recomputing(module: nn.Module) -> list[nn.Module]:
    """The networks inside that have a switch `checkpointing`."""
    return [net for net in module.modules() if isinstance(getattr(net, "checkpointing", None), bool)]


def moving(module: nn.Module) -> dict[str, Tensor]:
    """What training changes, by name: trainable weights, and buffers of real numbers."""
    frozen = {name for name, weight in module.named_parameters(remove_duplicate=False) if not weight.requires_grad}
    return {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name not in frozen and tensor.is_floating_point()
    }


class gathered:
    """Makes the weights whole on every rank for a while, in ordinary layers. All ranks enter and leave together."""

    def __init__(self, step: Step):
        self.step = step

    def __enter__(self) -> None:
        for part in _laid_out(self.step):
            part.unshard()
        self.hooks = _hooks(self.step)
        for hooks, _ in self.hooks:
            hooks.clear()

    def __exit__(self, *problem: object) -> None:
        if self.hooks:
            agree()  # those who are done wait here for those who still look at the weights
        for hooks, before in self.hooks:
            hooks.update(before)
        for part in _laid_out(self.step):
            part.reshard()


class averaged(gathered):
    """The same with the averaged weights in place of the module's own."""

    def __init__(self, step: Step, ema: Mapping[str, Tensor]):
        super().__init__(step)
        self.ema = ema

    @torch.no_grad()
    def __enter__(self) -> None:
        now = moving(self.step.trained)
        self.own = {name: local(now[name]).clone() for name in self.ema}
        for name, tensor in self.ema.items():
            local(now[name]).copy_(local(tensor))
        super().__enter__()

    @torch.no_grad()
    def __exit__(self, *problem: object) -> None:
        super().__exit__(*problem)
        now = moving(self.step.trained)
        for name, tensor in self.own.items():
            local(now[name]).copy_(tensor)


def _laid_out(step: Step) -> list:
    """The parts of a step that FSDP has taken over."""
    if not step.shared:
        return []
    from torch.distributed.fsdp import FSDPModule

    return [part for part in step.modules() if isinstance(part, FSDPModule)]


def _hooks(step: Step) -> list[tuple[dict, dict]]:
    """The hooks by which FSDP follows its parts, and copies of them.

    With these hooks, a call on one rank alone would change what FSDP expects of the next, and state_dict would lay the
    weights out again.
    """
    found: list[dict] = [hooks for part in _laid_out(step) for hooks in (part._forward_pre_hooks, part._forward_hooks)]
    if found:
        found += [module._state_dict_pre_hooks for module in step.modules()]
    return [(hooks, dict(hooks)) for hooks in found]
