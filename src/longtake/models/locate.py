"""Where a model is that a user names: a built-in one, a folder or file, a preset, or a repository of the hub."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from longtake.core.files import FILE_SUFFIXES, missing_path
from longtake.models.checkpoints import hub
from longtake.models.family import ReleasedCheckpoint
from longtake.models.registry import ModelError, presets, toy_families
from longtake.models.training_runs import model_of_run

WEIGHTS = Path(__file__).parent.parent / "pocket" / "weights"


@dataclass(frozen=True)
class CheckpointLocation:
    """Where a checkpoint is: on disk (path) or in a repository of the hub (repo), and the preset that was named for it."""

    path: Path | None = None
    repo: str | None = None
    preset: ReleasedCheckpoint | None = None


def builtin() -> dict[str, Path]:
    """Return the models inside the package: name -> folder."""
    return {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/longtake.json"))}


def locate(name: str) -> CheckpointLocation:
    """Find what a name stands for, without reading it and without the network. Raises ModelError with a near name."""
    known = presets()
    if name.startswith("~"):
        name = str(Path(name).expanduser())
    before, equals, after = name.partition("=")
    if equals and before in known:
        return replace(locate(after), preset=known[before])
    if name in builtin() or Path(name).exists():
        return CheckpointLocation(builtin().get(name) or model_of_run(Path(name)))
    if name in known:
        if known[name].hub is None:
            raise ModelError(known[name].how_to_get())
        return CheckpointLocation(repo=known[name].hub, preset=known[name])
    if _is_path(name):
        raise ModelError(missing_path(name))
    if hub.is_id(name):
        return _of_repository(name)
    here = [*builtin(), *(line.name for line in toy_families())]
    close = get_close_matches(name, [*here, *known], 1)
    hint = f"did you mean {close[0]!r}?" if close else f"built in are {', '.join(here)}; or give a folder, or a preset"
    raise ModelError(f"no model is called {name!r}: {hint}")


def _is_path(name: str) -> bool:
    """Whether a name can only be meant as a path: by its form, or since the folder before its last part exists."""
    path = Path(name)
    form = (
        name.startswith((".", "~", os.sep)) or path.is_absolute() or len(path.parts) > 2 or path.suffix in FILE_SUFFIXES
    )
    return form or name.endswith("/") or (len(path.parts) > 1 and path.parent.is_dir())


def _of_repository(name: str) -> CheckpointLocation:
    """Return the location of a repository of the hub, with its preset if it is a released checkpoint."""
    for preset in presets().values():
        if name == preset.original and name != preset.hub:
            raise ModelError(f"{name} holds pickles: use {preset.hub}, or convert a copy and give {preset.name}=FOLDER")
    return CheckpointLocation(repo=name, preset=next((p for p in presets().values() if p.hub == name), None))
