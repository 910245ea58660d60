"""The model families, and models by name or folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from longtake.models.base import Model

WEIGHTS = Path(__file__).parent.parent / "weights"

# family -> module:function that makes a Model from a folder (or, for a world, from nothing); imported only when used
FAMILIES: dict[str, str] = {
    "wan": "longtake.models.wan_checkpoint:open_folder",
    "clock": "longtake.models.clock:clock",
    "gauss": "longtake.models.gauss:gauss",
}
WORLDS = ("clock", "gauss")


class ModelError(ValueError):
    """A model that is not there or cannot be read; the message says what to do."""


def builtin() -> dict[str, Path]:
    """The models inside the package, by name."""
    return {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/longtake.json"))}


def load(name: str | Path, **options: Any) -> Model:
    """A model by the name of a built-in one, of a world, or by its folder. ModelError or WeightsError if there is none."""
    if str(name) in WORLDS:
        return _family(str(name))(**options)
    folder = builtin().get(str(name), Path(name))
    if not folder.is_dir():
        known = [*builtin(), *WORLDS]
        close = get_close_matches(str(name), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"built in are {', '.join(known)}; or give a folder"
        raise ModelError(f"no model is called {str(name)!r}: {hint}")
    return _family(family_of(folder))(folder, **options)


def family_of(folder: Path) -> str:
    """The family of a checkpoint folder, from its longtake.json or model_index.json."""
    own, index = folder / "longtake.json", folder / "model_index.json"
    try:
        if own.exists():
            family = json.loads(own.read_text())["family"]
        elif index.exists():
            family = "wan" if "transformer" in json.loads(index.read_text()) else ""
        else:
            raise ModelError(f"{folder} is no checkpoint: it has neither longtake.json nor model_index.json")
    except (json.JSONDecodeError, KeyError) as error:
        raise ModelError(f"{folder}: its description cannot be read ({error}): copy the model again") from error
    if family not in FAMILIES:
        raise ModelError(
            f"{folder} is of the family {family!r}, which is unknown here: there are {', '.join(FAMILIES)}"
        )
    return family


def _family(name: str) -> Callable[..., Model]:
    module, function = FAMILIES[name].split(":")
    return getattr(import_module(module), function)
