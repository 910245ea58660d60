"""The model families, and models by name, folder, file or id of the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.models import hub
from longtake.models.base import Model
from longtake.models.hub import Offer
from longtake.models.ltx_presets import LTXPreset
from longtake.models.presets import PRESETS, Released

if TYPE_CHECKING:
    from longtake.models.place import Place as Placing

WEIGHTS = Path(__file__).parent.parent / "weights"

# family -> module:function that makes a Model from a folder (or, for a world, from nothing); imported only when used
FAMILIES: dict[str, str] = {
    "wan": "longtake.models.wan_checkpoint:open_folder",
    "ltx": "longtake.models.ltx_checkpoint:open_folder",
    "clock": "longtake.models.clock:clock",
    "gauss": "longtake.models.gauss:gauss",
}
WORLDS = ("clock", "gauss")
PIPELINES = {"SkyReels": "wan", "Wan": "wan", "LTX": "ltx"}  # how the class names of diffusers begin -> family


class ModelError(ValueError):
    """A model that is not there or cannot be read; the message says what to do."""


def builtin() -> dict[str, Path]:
    """The models inside the package, by name."""
    return {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/longtake.json"))}


def load(
    name: str | Path,
    *,
    offline: bool = False,
    revision: str | None = None,
    announce: Callable[[Offer], None] | None = None,
    placing: Placing | None = None,
    **options: Any,
) -> Model:
    """A model by what `--model` accepts.

    That is: the name of a built-in one or of a world; a folder or file of weights; PRESET=PATH, where the files alone do
    not say which checkpoint they are; a preset or an id of the hub (Org/Name), fetched unless `offline`, at `revision`
    if given; `announce` is told the size and licence before a download. placing: where its weights lie and how they are gone
    through. options go to the family (dtype, device, offload, fp8, attention, compile).
    ModelError, WeightsError or HubError, all ValueError, say what to do.
    """
    if placing is None:
        return _load(name, offline, revision, announce, options)
    return placing.cached(_load(name, offline, revision, announce, options | placing.options()))


def _load(
    name: str | Path, offline: bool, revision: str | None, announce: Callable[[Offer], None] | None,
    options: dict[str, Any],
) -> Model:  # fmt: skip
    if str(name) in WORLDS:
        return _family(str(name))(**_accepted(str(name), options))
    place = locate(str(name))
    if place.repo is None:
        assert place.path is not None
        path, title = place.path, None
    else:
        path = hub.fetch(place.repo, revision, offline, announce)
        title = f"{place.repo}@{path.name[:12]}"
    named, family = {"preset": place.preset} if place.preset else {}, family_of(path)
    if place.preset and place.preset.family != family:
        raise ModelError(f"{path} is of the family {family}, but {place.preset.name} of {place.preset.family}")
    model = _family(family)(path, **named, **_accepted(family, options))
    model.name, model.builtin = title or model.name, str(name) in builtin()
    if place.preset:
        model.source = f"{place.preset.name}={path.resolve()}"
    return model


@dataclass(frozen=True)
class Place:
    """Where a model is: on disk or in a repository of the hub, and which preset was named for it."""

    path: Path | None = None
    repo: str | None = None
    preset: Released | None = None


def locate(name: str) -> Place:
    """What a name stands for, without looking into it and without the network. ModelError names what is near."""
    before, equals, after = name.partition("=")
    if equals and before in PRESETS:
        return replace(locate(after), preset=PRESETS[before])
    if name in builtin() or Path(name).exists():
        return Place(builtin().get(name, Path(name)))
    if name in PRESETS:
        if isinstance(named := PRESETS[name], LTXPreset) and named.hub is None:
            raise ModelError(f"{name} is the file {named.file} of Lightricks/LTX-Video: fetch it and give {name}=FILE")
        if PRESETS[name].hub is None:
            raise ModelError(f"no weights of {name} are published: give your own as {name}=FOLDER")
        return Place(repo=PRESETS[name].hub, preset=PRESETS[name])
    if hub.is_id(name):
        for preset in PRESETS.values():
            if name == preset.original:
                raise ModelError(
                    f"{name} holds pickles: use {preset.hub}, or convert a copy and give {preset.name}=FOLDER"
                )
        return Place(repo=name, preset=next((p for p in PRESETS.values() if p.hub == name), None))
    known = [*builtin(), *WORLDS, *PRESETS]
    close = get_close_matches(name, known, 1)
    here = ", ".join([*builtin(), *WORLDS])
    hint = f"did you mean {close[0]!r}?" if close else f"built in are {here}; or give a folder, or a preset"
    raise ModelError(f"no model is called {name!r}: {hint}")


def family_of(path: Path) -> str:
    """The family of a checkpoint: from longtake.json or model_index.json, else from the names of its tensors."""
    own, index = path / "longtake.json", path / "model_index.json"
    try:
        if own.exists():
            family = json.loads(own.read_text())["family"]
        elif index.exists():
            family = _family_of_class(str(json.loads(index.read_text())["_class_name"]))
        else:
            family = _family_of_tensors(path)
    except (json.JSONDecodeError, KeyError) as error:
        raise ModelError(f"{path}: its description cannot be read ({error}): copy the model again") from error
    if family not in FAMILIES:
        raise ModelError(f"{path} is of the family {family!r}, which is unknown here: there are {', '.join(FAMILIES)}")
    return family


def _family_of_class(pipeline: str) -> str:
    """The family of a diffusers pipeline; a class that is not known stands for itself."""
    return next((family for start, family in PIPELINES.items() if pipeline.startswith(start)), pipeline)


def _family_of_tensors(path: Path) -> str:
    """The family of files that come without a description."""
    if path.suffix == ".toml":
        return "wan"
    if not path.exists():
        raise ModelError(f"there is nothing at {path}: give a folder, or a file of weights")
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.suffix == ".safetensors" else []
    if not found:
        pickles = path.is_dir() and [f.name for f in sorted(path.iterdir()) if f.suffix in (".pth", ".pt", ".bin")]
        hint = f", only pickles ({', '.join(pickles)}): run `longtake convert` on each first" if pickles else ""
        raise ModelError(f"{path} is no checkpoint: it has no longtake.json, model_index.json or safetensors{hint}")
    headers = import_module("longtake.models.headers")
    names = [name for file in found for name in headers.header(file)]
    return "ltx" if any("transformer_blocks." in name for name in names) else "wan"


def _accepted(family: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options, if the family has them all. ModelError names one that it has not."""
    known = signature(_family(family)).parameters
    for option in options:
        if option not in known:
            raise ModelError(f"{family} models have no --{option}: leave it out")
    return options


def _family(name: str) -> Callable[..., Model]:
    module, function = FAMILIES[name].split(":")
    return getattr(import_module(module), function)
