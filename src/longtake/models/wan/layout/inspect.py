"""Describe a Wan checkpoint from the headers of its files: kind, sizes, dtypes, what is missing and what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from longtake.models.checkpoints.inspect import PartReport, Report, compared_part, first_fault, licence_of
from longtake.models.encoders import clip_vision as clip
from longtake.models.encoders.clip_vision import ClipVision
from longtake.models.encoders.t5 import T5Encoder
from longtake.models.encoders.umt5 import read_tokenizer
from longtake.models.wan.layout import components
from longtake.models.wan.layout.components import Layout, Part
from longtake.models.wan.layout.files import find, undecided
from longtake.models.wan.layout.settings import stated_settings
from longtake.models.wan.presets import KINDS, Preset, fitting
from longtake.models.wan.transformer import WanTransformer
from longtake.models.wan.vae import WanVAE

MAKERS: dict[Part, tuple[Callable[[Layout], Any], Callable[[Any], nn.Module]]] = {
    "transformer": (components.network, WanTransformer),
    "vae": (components.vae, WanVAE),
    "text_encoder": (components.words, T5Encoder),
    "image_encoder": (components.image_encoder, ClipVision),
}


def inspect(path: Path, preset: Preset | None = None) -> Report:
    """Describe a checkpoint; the preset states what its files leave open. Raises WeightsError if it is none at all."""
    found = find(path, preset)
    parts = [_part(found, part, found.parts[part]) for part in components.PARTS if part in found.parts]
    if found.second:
        parts.insert(1, _part(found, "transformer", found.second, "transformer_2"))
    notes = [f"pickles, to be converted with `longtake convert`: {', '.join(found.pickles)}"] if found.pickles else []
    whole = "transformer" in found.parts
    if whole and found.kind is None:
        notes.append(undecided(found))
    candidates = _candidates(found) if whole else []
    return Report(
        str(path), "wan", f"{found.style} layout", found.kind or "", tuple(p.name for p in candidates), tuple(parts),
        found.missing, licence_of(path, candidates), tuple(notes), KINDS[found.kind] if found.kind else "", _fault(found),
    )  # fmt: skip


def _fault(found: Layout) -> str:
    """Return why loading would refuse what no single part shows: its settings or its tokenizer."""
    if found.missing or found.kind is None:
        return ""
    return first_fault(lambda: stated_settings(found), lambda: found.tokenizer and read_tokenizer(found.tokenizer))


def _candidates(found: Layout) -> list[Preset]:
    """Return the released checkpoints that it may be."""
    if found.preset is not None:
        return [found.preset]
    if found.about:
        return []
    return fitting(components.shape(components.network(found)), found.kind, found.brand)


def _part(found: Layout, part: Part, files: Sequence[Path], name: str = "") -> PartReport:
    """Count a part, and check its tensors against the network that they should be."""
    read, make = MAKERS[part]
    arranged = clip.arranged if part == "image_encoder" else dict
    return compared_part(
        name or part,
        files,
        components.NAMES[part],
        lambda: read(found),
        make,
        lambda config: _words(part, config),
        arranged,
    )


def _words(part: Part, config: Any) -> str:
    """Describe a network in a few words."""
    if part == "transformer":
        fps = ", knows the frame rate" if config.inject_sample_info else ""
        return (
            f"{config.dim} wide, {config.num_layers} layers, {config.num_attention_heads} heads, "
            f"{config.in_channels} channels{fps}"
        )
    if part == "vae":
        return f"{config.z_dim} channels, {config.temporal_compression}x time, {config.spatial_compression}x space"
    layers = config.num_layers if part == "text_encoder" else config.num_hidden_layers
    return f"{layers} layers"
