"""The models and LoRAs that requests may name. A name is never a path: nothing outside of what the server offers is opened."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from longtake.core.units import pixels
from longtake.models.family import ReleasedCheckpoint
from longtake.models.locate import builtin
from longtake.models.registry import presets, toy_families
from longtake.server.errors import ApiError
from longtake.server.requests.model_files import FoundFile, ModelFiles

DEFAULT = "pocket"


@dataclass(frozen=True)
class Catalogue:
    """What a server offers. files: folders of models."""

    files: ModelFiles = field(default_factory=ModelFiles)

    def model(self, name: str) -> str:
        """Return what `longtake.load` takes for the model of a request. Raises ApiError 404, or 400 for no text."""
        if not isinstance(name, str):
            raise ApiError(400, "invalid_value", "model is the name of a model, as text.", "model")
        own = [*builtin(), *(toy.name for toy in toy_families()), *presets()]
        if name in presets() and (file := self.own_copy(presets()[name])):
            return f"{name}={file.path.resolve()}"
        if name in own:
            return name
        found = self.files.checkpoints()
        if name in found:
            return str(found[name].path.resolve())
        near = get_close_matches(str(name), [*own, *found], 1)
        hint = f"Did you mean {near[0]}?" if near else "GET /v1/models lists those that it has."
        raise ApiError(404, "model_not_found", f"This server has no model {str(name)[:200]!r}. {hint}", "model")

    def own_copy(self, preset: ReleasedCheckpoint) -> FoundFile | None:
        """Return the checkpoint in the folders of models that has the name of a preset, or of its repository; else None."""
        names = {preset.name, *(repo.rpartition("/")[2] for repo in (preset.hub, preset.original) if repo)}
        return next((one for one in self.files.checkpoints().values() if one.path.name in names), None)

    def lora(self, name: str) -> str:
        """Return the path of the LoRA of a request. Raises ApiError 404."""
        found = self.files.loras()
        if name in found:
            return str(found[name].path.resolve())
        near = get_close_matches(str(name), found, 1)
        hint = f"Did you mean {near[0]}?" if near else "GET /v1/loras lists those that it has."
        raise ApiError(404, "lora_not_found", f"This server has no LoRA {str(name)[:200]!r}. {hint}", "loras")

    def models(self) -> list[dict[str, Any]]:
        """Return all models as JSON values: built-in and toy ones, released checkpoints, and those in the folders."""
        listed = [_built_in(name, folder) for name, folder in builtin().items()]
        listed += [_model(toy.name, kind="toy", here=True, description=toy.description) for toy in toy_families()]
        listed += [_released(one, self.own_copy(one) is not None) for one in presets().values()]
        files = self.files.checkpoints().values()
        return [*listed, *(_model(one.name, kind="local", here=True, bytes=one.bytes or None) for one in files)]

    def loras(self) -> list[dict[str, Any]]:
        """Return all LoRAs as JSON values."""
        return [{"id": one.name, "object": "lora", "bytes": one.bytes} for one in self.files.loras().values()]


def _model(name: str, **facts: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "longtake", **facts}


def _built_in(name: str, folder: Path) -> dict[str, Any]:
    about = json.loads((folder / "longtake.json").read_text(encoding="utf-8"))
    size = pixels(about["size"])
    return _model(
        name,
        kind="built-in",
        here=True,
        size=size,
        fps=about["fps"],
        licence="Apache-2.0",
        description=about.get("about"),
    )


def _released(one: ReleasedCheckpoint, here: bool) -> dict[str, Any]:
    return _model(
        one.name, kind=one.kind, here=here, size=pixels(one.size), fps=one.fps, frames=one.frames, licence=one.licence,
        parameters=one.parameters, memory_gb={"weights": one.gigabytes(), "stated_peak": one.requested_gb},
        repository=one.hub,
    )  # fmt: skip
