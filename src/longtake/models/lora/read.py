"""LoRA files in the layouts of PEFT, diffusers, ComfyUI, kohya, LyCORIS and SVI, read strictly: no tensor is ignored.

A LoRA changes a weight W (out, in) to W + strength * alpha / rank * up (out, rank) @ down (rank, in). DoRA, LoHa and LoKr
compute the change otherwise (see `lora.delta`). Some files also hold full differences of weights, biases, norms and
modulation tables (`diff`, `diff_b`, `diff_m`): W + strength * diff.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from longtake.models.checkpoints.loading import WeightsError, brief
from longtake.models.lora.delta import DoraDelta, HadamardDelta, KroneckerDelta, Lora, LoraDelta, WeightDelta
from longtake.models.lora.file import LoraFile
from longtake.models.lora.key_formats import KeyFormat, missing_modules, module_of, parameter_finder, unread_kind

PAIRS = "lora_A and lora_B, or lora_down and lora_up"
HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
KRONECKER = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
LEAVABLE = ("left over", "of a kind that is not read", "of another shape")  # faults that a partial fit leaves out


def read(
    path: Path | str, net: nn.Module, key_format: KeyFormat | None = None, modules: int | None = None, partial: bool = False
) -> Lora:  # fmt: skip
    """Read a LoRA file, or a folder as PEFT writes it, with the parameter names of a network.

    modules: how many modules it must change, if known. partial: leave out what does not fit, with a note, as long as
    something fits. Raises WeightsError if a tensor matches no parameter or has another shape, if half of a pair is
    missing, or if it has no module of a kind that it lists as a target. Layers that it leaves alone are noted.
    """
    file = LoraFile.read(Path(path))
    if not file.modules:
        raise WeightsError(f"{path} is no LoRA: it has no pairs ({PAIRS}), only {brief(file.unknown)}")
    if file.settings.get("use_dora") and not any("magnitude" in parts for parts in file.modules.values()):
        raise WeightsError(f"{path} was trained as DoRA (use_dora), but holds no lora_magnitude_vector: fetch it again")
    result = MatchResult({name: tuple(p.shape) for name, p in net.named_parameters()})
    found = _matched(file, result, key_format or KeyFormat())
    lora = Lora(str(path), result.deltas, result.diffs, bool(file.settings.get("target_modules")))
    notes = _left_out(file, result, len(found), type(net).__name__, bool(lora.modules), partial)
    if modules is not None and len(lora.modules) != modules:
        raise WeightsError(f"{path} changes {len(lora.modules)} modules, not {modules}: {brief(lora.modules)}")
    names = [name for name, part in net.named_modules() if hasattr(part, "weight")]
    return replace(lora, notes=(*notes, *_untouched(file, found, names, partial)))


def _matched(file: LoraFile, result: MatchResult, key_format: KeyFormat) -> dict[str, tuple[str, ...]]:
    """Add the changes of all modules of a file to `result`; return the parameters that each module changes."""
    for key in file.unknown:
        kind = unread_kind(key)
        result.note("of a kind that is not read" if kind else "left over", f"{key} ({kind})" if kind else key)
    find = parameter_finder(result.shapes, key_format)
    found: dict[str, tuple[str, ...]] = {}
    for module, parts in file.modules.items():
        names = find(module)
        if not names or (len(names) > 1 and set(parts) - {"down", "up", "alpha", "magnitude"}):
            result.note("left over", *file.keys[module])
            continue
        found[module] = names
        if incomplete(parts):
            result.note("incomplete", *file.keys[module])
            continue
        for name, change in changes(file, module, names):
            result.add(name, change)
    return found


def _left_out(
    file: LoraFile, result: MatchResult, matched: int, kind: str, fits: bool, partial: bool
) -> tuple[str, ...]:  # fmt: skip
    """Return a note on what a partial fit leaves out. Raises WeightsError for all other faults."""
    if not result.faults:
        return ()
    only_leavable = all(fault in LEAVABLE for fault in result.faults)
    if partial and fits and only_leavable:
        return (f"{file.path} fits {kind} in part: it leaves out {result}",)
    hint = " (--lora-partial applies what fits)" if fits and only_leavable else ""
    raise WeightsError(f"{file.path}: {matched} of {len(file.modules)} modules are in {kind}; {result}{hint}")


@dataclass(frozen=True)
class MatchResult:
    """The changes of a file that fit a network with parameters of these shapes, and everything that does not, by fault."""

    shapes: Mapping[str, tuple[int, ...]]
    deltas: dict[str, WeightDelta] = field(default_factory=dict)
    diffs: dict[str, Tensor] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def note(self, fault: str, *names: str) -> None:
        """Record names under a fault, each once."""
        if new := [one for one in names if one not in self.faults.get(fault, ())]:
            self.faults.setdefault(fault, []).extend(new)

    def add(self, name: str, change: WeightDelta | Tensor) -> None:
        """Add the change of a parameter, or record why it does not fit."""
        shape = self.shapes.get(name)
        kept: dict[str, Any] = self.diffs if isinstance(change, Tensor) else self.deltas
        if shape is None:
            self.note("left over", name)
        elif name in kept:
            self.note("twice", name)
        elif isinstance(change, Tensor):
            if change.numel() != _count(shape) or [n for n in change.shape if n > 1] != [n for n in shape if n > 1]:
                self.note("of another shape", f"{name} is {shape}, not {tuple(change.shape)}")
            else:
                kept[name] = change.reshape(shape)
        elif not change.fits(shape):
            sizes = " x ".join(str(tuple(one.shape)) for one in reversed([*change.tensors.values()]))
            self.note("of another shape", f"{name} is {shape}, which {sizes} does not change")
        else:
            kept[name] = change

    def __str__(self) -> str:
        return "; ".join(f"{len(names)} {fault}: {brief(names)}" for fault, names in self.faults.items())


def _count(shape: Sequence[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def incomplete(parts: Mapping[str, Tensor]) -> bool:
    """Tell whether a module's tensors lack a part of a change, or are an alpha or norms alone."""
    unpaired = ("up" in parts) != ("down" in parts) or ("up_bias" in parts and "up" not in parts)
    hadamard = [kind in parts for kind in HADAMARD]
    kronecker = any(kind in parts for kind in KRONECKER)
    halves = all(
        (f"lokr_{half}" in parts) != (f"lokr_{half}_a" in parts and f"lokr_{half}_b" in parts) for half in ("w1", "w2")
    )
    kinds = ("up" in parts) + any(hadamard) + kronecker
    alone = not kinds and not {"weight", "bias"} & set(parts)
    return (
        unpaired or alone or kinds > 1 or any(hadamard) != all(hadamard) or (kronecker and not halves)
        or ("magnitude" in parts and not kinds)
    )  # fmt: skip


def changes(file: LoraFile, module: str, names: tuple[str, ...]) -> Iterator[tuple[str, WeightDelta | Tensor]]:
    """Yield the changes of a module of the file: one for every parameter that it stands for, and one for its bias."""
    parts, bias = file.modules[module], f"{module_of(names[0])}.bias"
    if "weight" in parts:
        yield names[0], parts["weight"]
    if "bias" in parts:
        yield bias, parts["bias"]
    scale = file.scale(module, module_of(names[0]), _rank(file, parts))
    whole = _whole_delta(parts, scale)
    if whole is not None:
        yield names[0], DoraDelta(whole, parts["magnitude"]) if "magnitude" in parts else whole
    if "up" not in parts:
        return
    down, up, magnitude = parts["down"], parts["up"], parts.get("magnitude")
    even = up.ndim > 0 and up.shape[0] % len(names) == 0
    norms = [magnitude] * len(names) if magnitude is None or len(names) == 1 else magnitude.flatten().chunk(len(names))
    for name, part, norm in zip(names, up.chunk(len(names)) if even else [up] * len(names), norms):
        plain = LoraDelta(down, part, scale)
        yield name, plain if norm is None else DoraDelta(plain, norm)
    if "up_bias" in parts:  # PEFT scales the bias of `up` like `up`
        yield bias, scale * parts["up_bias"].float()


def _rank(file: LoraFile, parts: Mapping[str, Tensor]) -> int:
    """Return the rank by which alpha is divided; 0 for a LoKr of two whole matrices, which LyCORIS does not scale."""
    for kind, axis in (("down", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0)):
        if kind in parts:
            return parts[kind].shape[axis] if parts[kind].ndim and parts[kind].shape[axis] else 1
    stated = file.settings.get("r") if file.settings.get("peft_type") == "LOKR" else None
    return stated if isinstance(stated, int) and stated > 0 else 0


def _whole_delta(parts: Mapping[str, Tensor], scale: float) -> WeightDelta | None:
    """Return the LoHa or LoKr of a module, if it has one."""
    if HADAMARD[0] in parts:
        a1, b1, a2, b2 = (parts[kind] for kind in HADAMARD)
        return HadamardDelta(a1, b1, a2, b2, scale)
    if not any(kind in parts for kind in KRONECKER):
        return None
    half = lambda name: (parts[name],) if name in parts else (parts[f"{name}_a"], parts[f"{name}_b"])
    return KroneckerDelta(half("lokr_w1"), half("lokr_w2"), scale)


def _untouched(
    file: LoraFile, found: Mapping[str, tuple[str, ...]], modules: Sequence[str], partial: bool
) -> tuple[str, ...]:  # fmt: skip
    """Return a note on layers that the file leaves alone. Raises WeightsError for a target of which it has none."""
    unmatched, missing = missing_modules(file.settings, found, modules)
    if unmatched and not partial:
        raise WeightsError(
            f"{file.path} was trained on {brief(unmatched)}, but has none such: fetch it again, or apply the rest with "
            "--lora-partial"
        )
    if not missing:
        return ()
    return (f"{file.path} leaves {len(missing)} layers of the kinds that it changes alone: {brief(missing)}",)
