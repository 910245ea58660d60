"""LoRA files in the layouts of PEFT, diffusers, ComfyUI, kohya and SVI: read strictly, written for PEFT and diffusers.

A LoRA changes a weight W (out, in) to W + strength * alpha / rank * up (out, rank) @ down (rank, in). Some files also
hold whole differences of weights, biases and norms (`diff`, `diff_b`): W + strength * diff.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from longtake.models.lora_keys import Spelling, finder, module_of, promised, sorted_out, unwrapped
from longtake.models.weights import WeightsError, brief, files, read_file, write_file

METADATA = "lora_adapter_metadata"  # where diffusers puts a PEFT config in the header of a file


@dataclass(frozen=True)
class Low:
    """A low-rank change: scale * up (out, rank) @ down (rank, in); those of a convolution have its kernel's shape."""

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return self.down.shape[0]

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether this changes a weight of that shape."""
        down, up = self.down, self.up
        if min(down.ndim, up.ndim, len(shape)) < 2:
            return False
        inner = (math.prod(up.shape[1:]), math.prod(down.shape[1:]))
        return up.shape[0] == shape[0] and inner == (self.rank, math.prod(shape[1:])) and self.rank > 0

    def delta(self, like: Tensor) -> Tensor:
        """The change of a weight, with the shape, device and dtype of `like`."""
        up, down = (t.flatten(1).to(like.device, like.dtype) for t in (self.up, self.down))
        return (self.scale * (up @ down)).view(like.shape)


@dataclass(frozen=True)
class Lora:
    """What a file changes: low-rank changes, and whole differences, by the parameter's name in the network.

    told: the file itself says what it was trained on.
    """

    name: str
    low: Mapping[str, Low]
    whole: Mapping[str, Tensor] = field(default_factory=dict)
    told: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return tuple(dict.fromkeys(module_of(name) for name in (*self.low, *self.whole)))


# ---------------------------------------------------------------- reading
def read(path: Path | str, net: nn.Module, spelling: Spelling | None = None, modules: int | None = None) -> Lora:
    """The LoRA in a file, or in a folder as PEFT writes it, under the names of the network.

    modules: how many it must change, if known.
    WeightsError if a tensor has no place or another shape, half of a pair is missing, or modules that the file itself
    says it was trained on are not in it (all layers of those that it has, if it does not say): nothing is left out
    silently.
    """
    held = Held.of(Path(path))
    fit = Fit({name: tuple(p.shape) for name, p in net.named_parameters()})
    find = finder(fit.places, spelling or Spelling())
    found: dict[str, tuple[str, ...]] = {}
    fit.note("left over", *held.strange)
    for module, parts in held.modules.items():
        names = find(module)
        if not names or (len(names) > 1 and set(parts) - {"down", "up", "alpha"}):
            fit.note("left over", *held.keys[module])
            continue
        found[module] = names
        if (
            ("up" in parts) != ("down" in parts)
            or ("up_bias" in parts and "up" not in parts)
            or set(parts) == {"alpha"}
        ):
            fit.note("incomplete", *held.keys[module])
            continue
        for name, change in changes(held, module, names):
            fit.put(name, change)
    kind = type(net).__name__
    if not held.modules:
        pairs = "lora_A and lora_B, or lora_down and lora_up"
        raise WeightsError(f"{path} is no LoRA: it has no pairs ({pairs}), only {brief(held.strange)}")
    if fit.faults:
        raise WeightsError(f"{path}: {len(found)} of {len(held.modules)} modules are in {kind}; {fit}")
    lora = Lora(str(path), fit.low, fit.whole, bool(held.settings.get("target_modules")))
    if modules is not None and len(lora.modules) != modules:
        raise WeightsError(f"{path} changes {len(lora.modules)} modules, not {modules}: {brief(lora.modules)}")
    _as_promised(held, found, [name for name, part in net.named_modules() if hasattr(part, "weight")])
    return lora


@dataclass(frozen=True)
class Fit:
    """Changes that fit a network, whose parameters have these shapes, and by kind of fault all that does not."""

    places: Mapping[str, tuple[int, ...]]
    low: dict[str, Low] = field(default_factory=dict)
    whole: dict[str, Tensor] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def note(self, fault: str, *what: str) -> None:
        """Note a fault once."""
        if new := [one for one in what if one not in self.faults.get(fault, ())]:
            self.faults.setdefault(fault, []).extend(new)

    def put(self, name: str, change: Low | Tensor) -> None:
        """Keep a change of a parameter, or note why not."""
        shape = self.places.get(name)
        kept: dict[str, Any] = self.low if isinstance(change, Low) else self.whole
        if shape is None:
            self.note("left over", name)
        elif name in kept:
            self.note("twice", name)
        elif isinstance(change, Low) and not change.fits(shape):
            sizes = f"{tuple(change.up.shape)} x {tuple(change.down.shape)}"
            self.note("of another shape", f"{name} is {shape}, which {sizes} does not change")
        elif isinstance(change, Tensor) and tuple(change.shape) != shape:
            self.note("of another shape", f"{name} is {shape}, not {tuple(change.shape)}")
        else:
            kept[name] = change

    def __str__(self) -> str:
        return "; ".join(f"{len(what)} {fault}: {brief(what)}" for fault, what in self.faults.items())


def changes(held: Held, module: str, names: tuple[str, ...]) -> Iterator[tuple[str, Low | Tensor]]:
    """What a module of a file changes: a parameter for every name it stands for, and the bias beside it."""
    parts, bias = held.modules[module], f"{module_of(names[0])}.bias"
    if "weight" in parts:
        yield names[0], parts["weight"]
    if "bias" in parts:
        yield bias, parts["bias"]
    if "up" not in parts:
        return
    down, up = parts["down"], parts["up"]
    scale = held.scale(module, module_of(names[0]), down.shape[0] if down.ndim and down.shape[0] else 1)
    even = up.ndim > 0 and up.shape[0] % len(names) == 0
    for name, part in zip(names, up.chunk(len(names)) if even else [up] * len(names)):
        yield name, Low(down, part, scale)
    if "up_bias" in parts:  # PEFT scales the bias of `up` as it scales `up`
        yield bias, scale * parts["up_bias"].float()


def _as_promised(held: Held, found: Mapping[str, tuple[str, ...]], modules: Sequence[str]) -> None:
    """WeightsError if modules are missing that the file's own settings promise, or those that it has."""
    idle, missing = promised(held.settings, found, modules)
    if idle:
        raise WeightsError(f"{held.path} was trained on {brief(idle)}, but has none such: fetch it again")
    if missing:
        raise WeightsError(
            f"{held.path} lacks {len(missing)} of the modules that it was trained on: {brief(missing)}: it is cut short, "
            f"or for another network; it has {brief([key for keys in held.keys.values() for key in keys])}"
        )


@dataclass(frozen=True)
class Held:
    """The tensors of a file by module as the file calls it and by kind; keys: their names; strange: all other keys."""

    path: Path
    modules: dict[str, dict[str, Tensor]]
    keys: dict[str, list[str]]
    strange: tuple[str, ...]
    settings: Mapping[str, Any]

    @staticmethod
    def of(path: Path) -> Held:
        """Read and sort."""
        found = files(path)
        modules: dict[str, dict[str, Tensor]] = {}
        keys: dict[str, list[str]] = {}
        strange = []
        for file in found:
            for key, tensor in read_file(file).items():
                module, kind = sorted_out(key)
                if kind is None or kind in modules.get(module, {}):
                    strange.append(key)
                    continue
                modules.setdefault(module, {})[kind] = tensor
                keys.setdefault(module, []).append(key)
        return Held(path, modules, keys, tuple(strange), settings(found[0]))

    def scale(self, module: str, own: str, rank: int) -> float:
        """alpha / rank of a module: alpha from a tensor beside it, else from the settings, else equal to the rank."""
        if "alpha" in self.modules[module]:
            alpha = self.modules[module]["alpha"]
            value = float(alpha) if alpha.numel() == 1 else math.nan
        else:
            patterns, names = self.settings.get("alpha_pattern") or {}, (unwrapped(module), own)
            fits = (a for p, a in patterns.items() if any(re.fullmatch(rf"(.*\.)?({p})", name) for name in names))
            told = next(fits, self.settings.get("lora_alpha"))
            value = float(rank if told is None else told)
        if not math.isfinite(value):
            raise WeightsError(f"{self.path}: alpha of {module} is {value}, which is no number to scale by")
        return value / math.sqrt(rank) if self.settings.get("use_rslora") else value / rank


def settings(file: Path) -> Mapping[str, Any]:
    """The PEFT config of a LoRA, from its header or from the adapter_config.json of a PEFT folder; empty if none."""
    beside = file.parent / "adapter_config.json"
    with safe_open(file, "pt") as opened:
        written = (opened.metadata() or {}).get(METADATA)
    if not written and file.name == "adapter_model.safetensors" and beside.exists():
        written = beside.read_text("utf-8", "replace")
    try:
        told = {key.removeprefix("transformer."): value for key, value in json.loads(written or "{}").items()}
        patterns = told.get("alpha_pattern") or {}
        for pattern, alpha in {**patterns, "": told.get("lora_alpha") or 1}.items():
            re.compile(pattern)
            float(alpha)
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise WeightsError(f"{file}: the settings of the LoRA cannot be read ({error}): fetch it again") from error
    for key in ("use_dora", "use_qalora", "use_bdlora", "layer_replication", "fan_in_fan_out"):
        if told.get(key):
            raise WeightsError(f"{file} was trained with {key}, which is not supported: only plain LoRA is")
    return told


# ---------------------------------------------------------------- writing
def write(lora: Lora, path: Path | str) -> Path:
    """Write a LoRA whole or not at all: a .safetensors file as diffusers reads it, or a folder as PEFT reads it."""
    path = Path(path)
    if lora.whole:
        raise WeightsError(f"{lora.name} changes {brief(list(lora.whole))} as a whole, which PEFT files cannot hold")
    single = path.suffix == ".safetensors"
    prefix = "transformer." if single else "base_model.model."
    tensors = {}
    for name, low in lora.low.items():
        for side, tensor in (("A", low.down), ("B", low.up)):
            tensors[f"{prefix}{module_of(name)}.lora_{side}.weight"] = tensor.detach().cpu().contiguous()
    config = peft_config(lora)
    file = path if single else path / "adapter_model.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    told = json.dumps({f"transformer.{key}": value for key, value in config.items()}, sort_keys=True)
    write_file(tensors, file, {"format": "pt", METADATA: told} if single else {"format": "pt"})
    if not single:
        partial = path / "adapter_config.partial"
        partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path / "adapter_config.json")
    return path


def peft_config(lora: Lora) -> dict[str, Any]:
    """The PEFT config of a LoRA: the most common rank and alpha, and the modules that have others."""
    ranks = {module_of(name): low.rank for name, low in lora.low.items()}
    alphas = {module_of(name): low.scale * low.rank for name, low in lora.low.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
    }
