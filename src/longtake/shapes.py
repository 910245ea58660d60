"""What a Wan checkpoint is, without its weights: a preset by name, or the headers of the files of one that is here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from longtake.models import WORLDS, Place, family_of, locate, wan_parts
from longtake.models.clip import ClipConfig
from longtake.models.presets import PRESETS, TEXT_PARAMETERS, Preset
from longtake.models.wan_checkpoint import CONTEXT, limits, own_defaults, released_defaults
from longtake.models.wan_layout import find
from longtake.plan import Limits
from longtake.rehearsal import Shapes
from longtake.settings import SettingsError

OWN_WORDS = 32  # tokens of a prompt of our own small models


def shapes(name: str, size: tuple[int, int] | None = None) -> tuple[Shapes, str, dict[str, Any]]:
    """The shapes of what `--model` names, its plan, and the options that suit it. SettingsError if it is no Wan model.

    size: (height, width), if not its own.
    """
    named = PRESETS.get(name) if not Path(name).exists() else None
    place = Place() if name in WORLDS else Place(preset=named) if isinstance(named, Preset) else locate(name)
    known = place.preset
    if place.path is None and isinstance(known, Preset):
        found, plan, options = _preset(known)
    elif place.path is not None and family_of(place.path) == "wan":
        found, plan, options = _folder(place.path, known if isinstance(known, Preset) else None)
    else:
        raise SettingsError(f"{name} is not of the Wan family, of which alone costs are known before it is loaded")
    return _sized(found, size or found.size), plan, options


def _preset(known: Preset) -> tuple[Shapes, str, dict[str, Any]]:
    limits = Limits(known.view, mixed=known.kind == "df", context=CONTEXT[known.kind])
    found = Shapes(
        known.name, known.config(), known.codec(), limits, known.fps, known.size, known.guidance, known.solver,
        eyes=ClipConfig() if "image_dim" in known.network else None, text_bytes=2 * TEXT_PARAMETERS,
        chain=known.chain,
    )  # fmt: skip
    return found, known.plan, dict(known.options)


def _folder(path: Path, known: Preset | None) -> tuple[Shapes, str, dict[str, Any]]:
    found = find(path, known)
    own = bool(found.about)
    told = own_defaults(found.about) if own else released_defaults(found)
    view = told.pop("view", None)
    network = wan_parts.network(found)
    network = network if view is None else replace(network, view=view)
    eyes = wan_parts.eyes(found) if "image_encoder" in found.parts else None
    made = Shapes(
        told["name"], network, wan_parts.codec(found), limits(found, network), told["fps"], told["size"],
        told.get("guidance", 1.0), told.get("solver", "euler"), OWN_WORDS if own else 512, eyes,
        sum(entry.bytes for entry in found.entries("text_encoder").values()),
        torch.float32 if own else torch.bfloat16,
    )  # fmt: skip
    return made, told.get("plan", "sliding"), dict(told.get("options") or told.get("sampling") or {})


def _sized(found: Shapes, size: tuple[int, int]) -> Shapes:
    units = [found.codec.scale * patch for patch in found.network.patch_size[1:]]
    if any(side < 1 or side % unit for side, unit in zip(size, units)):
        near = "x".join(str(max(unit, round(side / unit) * unit)) for side, unit in zip(size, units))
        raise SettingsError(f"--size {size[0]}x{size[1]} is not whole tokens of {units[0]} x {units[1]}: use {near}")
    return replace(found, size=size)
