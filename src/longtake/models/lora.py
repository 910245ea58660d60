"""LoRA on a network: merged into its weights and undone bit for bit, or kept apart beside them, for training too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.blocks import Blocks
from longtake.models.lora_file import Lora, Low, write
from longtake.models.lora_keys import module_of
from longtake.models.weights import WeightsError, brief


# ---------------------------------------------------------------- merged
class Merged:
    """LoRAs added into the weights of a network: W + sum of strength * change, in float32 or better, rounded once.

    Taking a change off again by subtraction would not give the same bits, so the weights that are changed are kept as
    they were: once each, however many LoRAs there are and however often they change, and always in host memory (for a
    network on a CPU these are the tensors it was loaded with, not copies). What is merged depends on the LoRAs alone,
    not on their order nor on what was merged before. Matrices that are kept in 8 bits stay as they are: what changes
    them lies beside them (see `blocks.Blocks`).
    """

    def __init__(self, net: nn.Module):
        self.net = net
        self.originals: dict[str, Tensor] = {}  # of the parameters that are changed now

    @torch.no_grad()
    @torch.inference_mode(False)  # so that a weight merged in inference also serves training
    def use(self, chosen: Sequence[tuple[Lora, float]]) -> None:
        """The network with these LoRAs at these strengths and no others; () restores it."""
        chosen = sorted((pair for pair in chosen if pair[1]), key=lambda pair: pair[0].name)
        places = dict(self.net.named_parameters())
        narrow = self._beside(chosen)
        changed = list(
            dict.fromkeys(name for lora, _ in chosen for name in (*lora.low, *lora.whole) if name not in narrow)
        )
        if strange := [name for name in changed if name not in places]:
            raise WeightsError(f"the network has no {brief(strange)} to merge into: take away what is kept apart first")
        for name in self.originals.keys() - set(changed):
            places[name].data = self.originals.pop(name).to(places[name].device)
        for name in changed:
            weight = places[name]
            original = self.originals.setdefault(name, weight.detach().to("cpu"))
            wide = original.to(weight.device, wide_dtype(weight))
            weight.data = (wide + sum(_changes(chosen, name, wide))).to(weight.dtype)

    def _beside(self, chosen: Sequence[tuple[Lora, float]]) -> set[str]:
        """The matrices in 8 bits, with these LoRAs beside them now. WeightsError if one changes such a matrix as a whole."""
        found = set[str]()
        for place, blocks in self.net.named_modules():
            if isinstance(blocks, Blocks) and blocks.narrow:
                names = {f"{place}.{name}": name for name in blocks.narrow}
                for lora, _ in chosen:
                    if whole := [name for name in lora.whole if name in names]:
                        raise WeightsError(f"{lora.name} changes {brief(whole)} as a whole: leave --fp8 out")
                lows = {
                    name: [(lora.low[full], by) for lora, by in chosen if full in lora.low]
                    for full, name in names.items()
                }
                blocks.change({name: each for name, each in lows.items() if each})
                found |= set(names)
        return found


def wide_dtype(weight: Tensor) -> torch.dtype:
    """The dtype to add changes of a weight in: at least float32."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _changes(chosen: Sequence[tuple[Lora, float]], name: str, like: Tensor) -> Iterator[Tensor]:
    """What each LoRA adds to a parameter."""
    for lora, strength in chosen:
        if name in lora.low:
            yield strength * lora.low[name].delta(like)
        if name in lora.whole:
            yield strength * lora.whole[name].to(like)


# ---------------------------------------------------------------- kept apart
class Apart(nn.Module):
    """A linear layer (or convolution) with low-rank changes beside it: base(x) + sum of scale * up(down(x)).

    down and up are parameters, by the LoRA's name; scale is strength * alpha / rank. `weight` is the changed weight, for
    networks that use a layer's weight themselves.
    """

    base: nn.Linear  # or a convolution

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = cast(nn.Linear, base)
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        self.scale: dict[str, float] = {}
        self.strength: dict[str, float] = {}

    def add(self, name: str, low: Low, strength: float = 1.0) -> None:
        """Put one more change beside the layer."""
        device = self.base.weight.device
        self.down[name] = nn.Parameter(low.down.to(device, copy=True))
        self.up[name] = nn.Parameter(low.up.to(device, copy=True))
        self.scale[name], self.strength[name] = low.scale, strength

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
        """The layer's weight with all changes."""
        weight = self.base.weight
        like = weight.to(wide_dtype(weight))
        for name in self.down:
            like = like + self.strength[name] * self.low(name).delta(like)
        return like.to(weight.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        return self.base.bias

    def low(self, name: str) -> Low:
        """The change of that name."""
        return Low(self.down[name], self.up[name], self.scale[name])


def keep_apart(net: nn.Module, lora: Lora, strength: float = 1.0, name: str = "default") -> list[str]:
    """Put a LoRA beside the layers of a network, whose weights stay as they are; the names of the layers.

    Only the parameters of LoRAs require gradients afterwards.
    """
    if lora.whole:
        raise WeightsError(
            f"{lora.name} changes {brief(list(lora.whole))} as a whole: that can be merged, but not kept apart"
        )
    layers = {module_of(parameter): low for parameter, low in lora.low.items()}
    known = dict(net.named_modules())
    for module in layers:
        if module not in known or (isinstance(known[module], Apart) and name in known[module].down):
            raise WeightsError(f"{module} takes no LoRA {name!r}: it is not there, or has one of that name already")
    net.requires_grad_(False)
    for module, low in layers.items():
        _wrapped(net, module).add(name, low, strength)
    for part in apart(net).values():
        part.down.requires_grad_(True)
        part.up.requires_grad_(True)
    return list(layers)


def inject(
    net: nn.Module, rank: int, alpha: float, targets: Sequence[str], *, name: str = "default",
    dtype: torch.dtype = torch.float32, seed: int = 0,
) -> list[str]:  # fmt: skip
    """Put a new LoRA beside every linear layer whose name ends with a target, for training; the names of the layers.

    down is Kaiming-uniform noise of the seed and up is 0 (Hu et al. 2021), so the network computes what it did.
    ValueError if rank is no positive number or a target is the end of no layer's name.
    """
    if rank < 1:
        raise ValueError(f"a LoRA of rank {rank} changes nothing: give a rank of at least 1")
    linear = _linear(net)
    idle = [t for t in targets if not any(_ends(module, t) for module in linear)]
    if idle or not targets:
        ends = sorted({module.split(".")[-1] for module in linear})
        raise ValueError(
            f"no linear layer's name ends with {brief(idle) or 'nothing'}: they end with {brief(ends, 20)}"
        )
    draw = torch.Generator().manual_seed(seed)
    low = {}
    for module, layer in linear.items():
        if any(_ends(module, target) for target in targets):
            meta = layer.weight.is_meta
            down = torch.empty(rank, layer.in_features, dtype=dtype, device="meta" if meta else "cpu")
            nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=draw)
            up = torch.zeros(layer.out_features, rank, dtype=dtype, device=down.device)
            low[f"{module}.weight"] = Low(down, up, alpha / rank)
    return keep_apart(net, Lora(name, low), name=name)


def apart(net: nn.Module) -> dict[str, Apart]:
    """The layers of a network that have changes beside them, by name."""
    return {module: layer for module, layer in net.named_modules() if isinstance(layer, Apart)}


def collect(net: nn.Module, name: str = "default") -> Lora:
    """A LoRA that is kept apart, as a value."""
    low = {f"{module}.weight": part.low(name) for module, part in apart(net).items() if name in part.down}
    if not low:
        raise WeightsError(f"no LoRA {name!r} is kept apart in this {type(net).__name__}")
    return Lora(name, low)


def save(net: nn.Module, path: Path | str, name: str = "default") -> Path:
    """Write a LoRA that is kept apart: a .safetensors file as diffusers reads it, or a folder as PEFT reads it."""
    return write(collect(net, name), path)


def take_away(net: nn.Module) -> None:
    """Take away all that is kept apart; the layers themselves were never changed."""
    for module, part in apart(net).items():
        net.set_submodule(module, part.base)


def _wrapped(net: nn.Module, module: str) -> Apart:
    layer = net.get_submodule(module)
    if not isinstance(layer, Apart):
        layer = Apart(layer)
        net.set_submodule(module, layer)
    return layer


def _linear(net: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers by name, with or without changes beside them."""
    bases = {f"{module}.base": module for module in apart(net)}
    layers = net.named_modules()
    return {bases.get(module, module): layer for module, layer in layers if isinstance(layer, nn.Linear)}


def _ends(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")
