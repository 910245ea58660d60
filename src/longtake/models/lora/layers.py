"""LoRA layers attached to a network whose own weights stay as they are, for training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.checkpoints.loading import WeightsError, brief
from longtake.models.lora.delta import Lora, LoraDelta, wide_dtype
from longtake.models.lora.key_formats import any_layer, module_of
from longtake.models.lora.write import write


class LoraLinear(nn.Module):
    """A linear layer (or convolution) with LoRAs: base(x) + sum of strength * scale * up(down(x)).

    down and up are parameters, by the LoRA's name; scale is alpha / rank. `weight` is the changed weight, for networks
    that use a layer's weight themselves.
    """

    base: nn.Linear  # or a convolution

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = cast(nn.Linear, base)
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        self.scale: dict[str, float] = {}
        self.strength: dict[str, float] = {}

    def add(self, name: str, delta: LoraDelta, strength: float = 1.0) -> None:
        """Add one more LoRA to the layer."""
        device = self.base.weight.device
        self.down[name] = nn.Parameter(delta.down.to(device, copy=True))
        self.up[name] = nn.Parameter(delta.up.to(device, copy=True))
        self.scale[name], self.strength[name] = delta.scale, strength

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(self.base, nn.Linear):
            return torch.func.functional_call(self.base, {"weight": self.weight}, x)
        y = self.base(x)
        for name, down in self.down.items():
            low = nnf.linear(nnf.linear(x.to(down.dtype), down), self.up[name])
            y = y + (self.strength[name] * self.scale[name] * low).to(y.dtype)
        return y

    @property
    def weight(self) -> Tensor:
        """The layer's weight with all LoRAs."""
        weight = self.base.weight
        wide = weight.to(wide_dtype(weight))
        for name in self.down:
            wide = wide + self.strength[name] * self.delta(name).delta(wide)
        return wide.to(weight.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        return self.base.bias

    def delta(self, name: str) -> LoraDelta:
        """Return the LoRA of that name."""
        return LoraDelta(self.down[name], self.up[name], self.scale[name])


def attach(net: nn.Module, lora: Lora, strength: float = 1.0, name: str = "default") -> list[str]:
    """Attach a LoRA to the layers of a network; return the names of the layers.

    Only the parameters of LoRAs require gradients afterwards. Raises WeightsError for full differences, for layers that
    the network lacks, and for a second LoRA of the same name.
    """
    if lora.others:
        raise WeightsError(
            f"{lora.name} changes {brief(lora.others)} by DoRA, LoHa, LoKr or full differences: merge it, since only plain "
            "low-rank changes can be attached"
        )
    deltas = {module_of(parameter): delta for parameter, delta in lora.low_rank.items()}
    modules = dict(net.named_modules())
    for module in deltas:
        layer = modules.get(module)
        if layer is None or (isinstance(layer, LoraLinear) and name in layer.down):
            raise WeightsError(
                f"LoRA {name!r} cannot be attached to {module}: it is missing, or has a LoRA of that name"
            )
    net.requires_grad_(False)
    for module, delta in deltas.items():
        _lora_layer(net, module).add(name, delta, strength)
    for layer in lora_layers(net).values():
        layer.down.requires_grad_(True)
        layer.up.requires_grad_(True)
    return list(deltas)


def inject(
    net: nn.Module, rank: int, alpha: float, targets: Sequence[str], *, name: str = "default",
    dtype: torch.dtype = torch.float32, seed: int = 0,
) -> list[str]:  # fmt: skip
    """Attach a new LoRA to every linear layer whose name ends with a target, for training; return the layers' names.

    down is Kaiming-uniform noise of the seed and up is 0 (Hu et al. 2021), so that the network's output is unchanged.
    Raises ValueError if the rank is below 1, or if no layer's name ends with a target.
    """
    if rank < 1:
        raise ValueError(f"the rank of a LoRA must be at least 1, not {rank}")
    check_targets(net, targets)
    linear = _linear_layers(net)
    rng = torch.Generator().manual_seed(seed)
    deltas = {}
    for module, layer in linear.items():
        if any(_ends_with(module, target) for target in targets):
            device = "meta" if layer.weight.is_meta else "cpu"
            down = torch.empty(rank, layer.in_features, dtype=dtype, device=device)
            nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=rng)
            up = torch.zeros(layer.out_features, rank, dtype=dtype, device=device)
            deltas[f"{module}.weight"] = LoraDelta(down, up, alpha / rank)
    return attach(net, Lora(name, deltas), name=name)


def check_targets(net: nn.Module, targets: Sequence[str]) -> None:
    """Raise ValueError, with the whole names of all linear layers, if no layer's name ends with one of the targets."""
    linear = _linear_layers(net)
    unmatched = [t for t in targets if not any(_ends_with(module, t) for module in linear)]
    if unmatched or not targets:
        whole = list(dict.fromkeys(any_layer(name) for name in linear))
        raise ValueError(
            f"no linear layer's name ends with {brief(unmatched) or 'nothing'}: the layers are {brief(whole, 60)}, with a number "
            "for every *"
        )


def lora_layers(net: nn.Module) -> dict[str, LoraLinear]:
    """Return the layers of a network that have LoRAs attached, by name."""
    return {module: layer for module, layer in net.named_modules() if isinstance(layer, LoraLinear)}


def collect(net: nn.Module, name: str = "default") -> Lora:
    """Return an attached LoRA as a value."""
    deltas = {f"{module}.weight": layer.delta(name) for module, layer in lora_layers(net).items() if name in layer.down}
    if not deltas:
        raise WeightsError(f"no LoRA {name!r} is attached to this {type(net).__name__}")
    return Lora(name, deltas)


def save(net: nn.Module, path: Path | str, name: str = "default") -> Path:
    """Write an attached LoRA: a .safetensors file as diffusers reads it, or a folder as PEFT reads it."""
    return write(collect(net, name), path)


def detach(net: nn.Module) -> None:
    """Remove all attached LoRA layers; the base weights were never modified."""
    for module, layer in lora_layers(net).items():
        net.set_submodule(module, layer.base)


def _lora_layer(net: nn.Module, module: str) -> LoraLinear:
    layer = net.get_submodule(module)
    if not isinstance(layer, LoraLinear):
        layer = LoraLinear(layer)
        net.set_submodule(module, layer)
    return layer


def _linear_layers(net: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers by name, with or without LoRAs attached."""
    bases = {f"{module}.base": module for module in lora_layers(net)}
    layers = net.named_modules()
    return {bases.get(module, module): layer for module, layer in layers if isinstance(layer, nn.Linear)}


def _ends_with(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")
