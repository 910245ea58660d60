"""Weights, gradients and optimiser state sharded over ranks by FSDP2 (ZeRO-2 and ZeRO-3), and the averaged weights.

ZeRO-2 keeps the full weights from the forward to the backward pass, ZeRO-3 gathers them again: less memory, more
messages. Neither changes the result. On one process nothing is sharded, and the code is the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from longtake.core.errors import ConfigError
from longtake.train.run.distributed import all_agree, local, ranks


class LossModule(nn.Module):
    """A loss function as the forward pass of a module, which is where FSDP gathers weights and scatters gradients."""

    def __init__(self, trained: nn.Module, loss: Callable[..., Any]):
        super().__init__()
        self.trained = trained
        self._loss = loss

    @property
    def sharded(self) -> bool:
        """Whether the weights are sharded over ranks."""
        return hasattr(self, "unshard")

    def forward(self, *args: Any) -> Any:
        with warnings.catch_warnings():
            # layers return views of keys and values; nothing is written into them afterwards
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
            return self._loss(*args)


def shard_module(
    trained: nn.Module, loss: Callable[..., Any], shard: str, dtype: torch.dtype, uniform: bool
) -> LossModule:
    """Wrap a module and its loss, with the weights sharded over the ranks if `shard` says so and there are several.

    uniform: all batches make the same calls of the network. Then layers are gathered one by one, which all ranks must
    do together; otherwise all weights are gathered once a step, and zero3 raises ConfigError.
    dtype: compute dtype of the layers. They are gathered in it; the pieces and the sums of gradients stay in float32.
    """
    module = LossModule(trained, loss)
    if shard == "none" or ranks()[1] == 1:
        return module
    layers = blocks(trained)
    if shard == "zero3" and layers and not uniform:
        raise ConfigError(
            'shard = "zero3" gathers layers call by call, so all processes must make the same calls of the network, but '
            'batches of this recipe differ in them: use shard = "zero2"'
        )
    _shard(module, layers if uniform else [], shard == "zero3", dtype)
    return module


def _shard(module: LossModule, layers: list[nn.Module], reshard: bool, dtype: torch.dtype) -> None:
    """Apply fully_shard to the layers and the module. reshard: gather weights again for the backward pass."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(next(module.parameters()).device.type, (ranks()[1],))
    policy = MixedPrecisionPolicy()
    if dtype != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard, mp_policy=policy)
        for name in getattr(layer, "entries", ()):
            register_fsdp_forward_method(layer, name)
    fully_shard(module, mesh=mesh, reshard_after_forward=reshard)


def blocks(module: nn.Module) -> list[nn.Module]:
    """Return the layers of every network with gradient checkpointing.

    A layer whose network calls methods of it besides forward names them in the class attribute `entries`.
    """
    lists = [child for net in checkpointable(module) for child in net.children() if isinstance(child, nn.ModuleList)]
    return [block for layers in lists for block in layers]


def checkpointable(module: nn.Module) -> list[nn.Module]:
    """Return the networks inside a module that have the switch `checkpointing`."""
    return [net for net in module.modules() if isinstance(getattr(net, "checkpointing", None), bool)]


def trained_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that training changes, by name: trainable weights and floating-point buffers."""
    frozen = {name for name, weight in module.named_parameters(remove_duplicate=False) if not weight.requires_grad}
    return {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name not in frozen and tensor.is_floating_point()
    }


class gathered:
    """Context manager in which every rank holds the full weights in ordinary layers. All ranks enter and leave together."""

    def __init__(self, module: LossModule):
        self.module = module

    def __enter__(self) -> None:
        for part in _sharded_parts(self.module):
            part.unshard()
        self.hooks = _hooks(self.module)
        for hooks, _ in self.hooks:
            hooks.clear()

    def __exit__(self, *problem: object) -> None:
        if self.hooks:
            all_agree()  # ranks that are done wait here for those that still use the weights
        for hooks, before in self.hooks:
            hooks.update(before)
        for part in _sharded_parts(self.module):
            part.reshard()


class averaged(gathered):
    """Context manager like `gathered`, with the averaged weights in place of the module's own."""

    def __init__(self, module: LossModule, ema: Mapping[str, Tensor]):
        super().__init__(module)
        self.ema = ema

    @torch.no_grad()
    def __enter__(self) -> None:
        now = trained_tensors(self.module.trained)
        self.own = {name: local(now[name]).clone() for name in self.ema}
        for name, tensor in self.ema.items():
            local(now[name]).copy_(local(tensor))
        super().__enter__()

    @torch.no_grad()
    def __exit__(self, *problem: object) -> None:
        super().__exit__(*problem)
        now = trained_tensors(self.module.trained)
        for name, tensor in self.own.items():
            local(now[name]).copy_(tensor)


def _sharded_parts(module: LossModule) -> list:
    """Return the submodules that FSDP has taken over."""
    if not module.sharded:
        return []
    from torch.distributed.fsdp import FSDPModule

    return [part for part in module.modules() if isinstance(part, FSDPModule)]


def _hooks(module: LossModule) -> list[tuple[dict, dict]]:
    """Return the hooks by which FSDP follows its submodules, with copies of them.

    With these hooks, a call on one rank alone would change what FSDP expects of the next call, and state_dict would
    shard the weights again.
    """
    found: list[dict] = [
        hooks for part in _sharded_parts(module) for hooks in (part._forward_pre_hooks, part._forward_hooks)
    ]
    if found:
        found += [part._state_dict_pre_hooks for part in module.modules()]
    return [(hooks, dict(hooks)) for hooks in found]
