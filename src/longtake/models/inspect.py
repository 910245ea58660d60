"""What a checkpoint is, from the headers of its files alone: kind, sizes, dtypes, what is missing and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from longtake.models import clip, family_of, ltx_checkpoint, wan_parts, weights
from longtake.models.clip import ClipVision
from longtake.models.headers import Entry, entries
from longtake.models.presets import KINDS, Kind, Preset, Released, fitting
from longtake.models.text import T5Encoder
from longtake.models.wan import WanTransformer
from longtake.models.wan_codec import WanCodec
from longtake.models.wan_layout import find, undecided
from longtake.models.wan_parts import Layout, Part

MAKERS: dict[Part, tuple[Callable[[Layout], Any], Callable[[Any], nn.Module]]] = {
    "transformer": (wan_parts.network, WanTransformer),
    "vae": (wan_parts.codec, WanCodec),
    "text_encoder": (wan_parts.words, T5Encoder),
    "image_encoder": (wan_parts.eyes, ClipVision),
}


@dataclass(frozen=True)
class PartReport:
    """One part. dtypes: as the files write them, the most used first. fault: why it would be refused, or nothing."""

    name: str
    files: int
    parameters: int
    bytes: int
    dtypes: tuple[str, ...]
    shape: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Report:
    """A checkpoint. kind: "" if the files do not say it. presets: those that it may be. notes: what a user should know."""

    path: str
    family: str
    layout: str
    kind: Kind | str
    presets: tuple[str, ...]
    parts: tuple[PartReport, ...]
    missing: tuple[str, ...]
    licence: str
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it can be opened as it is."""
        return bool(self.kind) and not self.missing and not any(part.fault for part in self.parts)

    def facts(self) -> dict[str, Any]:
        """The report, json-able."""
        return asdict(self) | {"complete": self.complete}

    def lines(self) -> list[str]:
        """The report, to be read."""
        kind = next((words for kind, words in KINDS.items() if kind == self.kind), self.kind or "unknown")
        told = [f"{self.path}: {self.family}, {self.layout}", f"kind: {kind}"]
        told += [f"may be: {', '.join(self.presets)}"] if self.presets else []
        told += [f"licence: {self.licence}"] if self.licence else []
        for part in self.parts:
            size = f"{part.parameters:,} parameters, {part.bytes / 1e9:.2f} GB, {'/'.join(part.dtypes)}"
            files = f"{part.files} file{'s' if part.files > 1 else ''}"
            told.append(f"{part.name}: {size}, {files}{', ' + part.shape if part.shape else ''}")
            told += [f"  does not fit: {part.fault}"] if part.fault else []
        told += [f"missing: {', '.join(self.missing)}"] if self.missing else []
        return [*told, *self.notes]


def inspect(path: Path | str, preset: Released | None = None) -> Report:
    """What is at a path: folder, file of weights or .toml list. WeightsError or ModelError if it is no checkpoint at all."""
    path = Path(path)
    family = family_of(path)
    return _wan(path, preset if isinstance(preset, Preset) else None) if family == "wan" else _other(path, family)


# ---------------------------------------------------------------- Wan
def _wan(path: Path, preset: Preset | None) -> Report:
    found = find(path, preset)
    parts = tuple(_part(found, part) for part in wan_parts.PARTS if part in found.parts)
    notes = [f"pickles, to be converted with `longtake convert`: {', '.join(found.pickles)}"] if found.pickles else []
    whole = "transformer" in found.parts
    if whole and found.kind is None:
        notes.append(undecided(found))
    may = _candidates(found) if whole else []
    return Report(
        str(path), "wan", f"{found.style} layout", found.kind or "", tuple(p.name for p in may), parts, found.missing,
        _licence(path, may), tuple(notes),
    )  # fmt: skip


def _candidates(found: Layout) -> list[Preset]:
    """The released checkpoints that it may be."""
    if found.preset is not None:
        return [found.preset]
    if found.about:
        return []
    return fitting(wan_parts.shape(wan_parts.network(found)), found.kind, found.brand)


def _part(found: Layout, part: Part) -> PartReport:
    tensors = found.entries(part)
    read, make = MAKERS[part]
    shape, fault = "", ""
    try:
        config = read(found)
        shape = _words(part, config)
        with torch.device("meta"):
            net, blank = make(config), {name: torch.empty(entry.shape) for name, entry in tensors.items()}
        weights.check(net, clip.arranged(blank) if part == "image_encoder" else blank)
    except weights.WeightsError as error:
        fault = str(error)
    return _counted(part, len(found.parts[part]), tensors, shape, fault)


def _words(part: Part, config: Any) -> str:
    """A network in a few words."""
    if part == "transformer":
        fps = ", knows the frame rate" if config.inject_sample_info else ""
        return (
            f"{config.dim} wide, {config.num_layers} layers, {config.num_attention_heads} heads, "
            f"{config.in_channels} channels{fps}"
        )
    if part == "vae":
        return f"{config.z_dim} channels, {config.stride}x time, {config.scale}x space"
    layers = config.num_layers if part == "text_encoder" else config.num_hidden_layers
    return f"{layers} layers"


def _counted(name: str, files: int, tensors: dict[str, Entry], shape: str = "", fault: str = "") -> PartReport:
    kinds: dict[str, int] = {}
    for entry in tensors.values():
        kinds[entry.dtype] = kinds.get(entry.dtype, 0) + entry.numel
    total, size = sum(kinds.values()), sum(entry.bytes for entry in tensors.values())
    return PartReport(name, files, total, size, tuple(sorted(kinds, key=lambda k: -kinds[k])), shape, fault)


# ---------------------------------------------------------------- other families
def _other(path: Path, family: str) -> Report:
    """A checkpoint of another family: its parts are counted, and not compared with a network."""
    folders = [path, *sorted(p for p in path.iterdir() if p.is_dir())] if path.is_dir() else [path]
    parts = []
    for folder in folders:
        if folder.is_file() or any(folder.glob("*.safetensors")):
            files = weights.files(folder)
            parts.append(_counted(folder.stem if folder != path else "weights", len(files), entries(files)))
    index = path / "model_index.json"
    kind = weights.read_json(index).get("_class_name", "") if index.exists() else ""
    may = _ltx_presets(path) if family == "ltx" else ()
    return Report(
        str(path), family, "folder" if path.is_dir() else "single file", kind, may, tuple(parts), (), _licence(path, [])
    )


def _ltx_presets(path: Path) -> tuple[str, ...]:
    """The releases of LTX-Video that it may be, told from configs and headers; none if it is not whole."""
    try:
        found = ltx_checkpoint.find(path)
    except weights.WeightsError:
        return ()
    return () if found.about else tuple(preset.name for preset in ltx_checkpoint.fitting(found))


def _licence(path: Path, may: Iterable[Preset]) -> str:
    """As the README of the folder declares it, else that of the presets if they agree."""
    card = path / "README.md" if path.is_dir() else path.parent / "README.md"
    if card.is_file():
        told = dict(re.findall(r"^(license(?:_name)?):\s*(\S+)", card.read_text(errors="replace")[:5000], re.M))
        if told:
            return told.get("license_name") or told["license"]
    declared = {preset.licence for preset in may}
    return declared.pop() if len(declared) == 1 else ""
