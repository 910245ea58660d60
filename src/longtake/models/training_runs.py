"""The folder of a training run, where a user names a model: the model, or the LoRA, that the run has written into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from longtake.core.errors import InputError
from longtake.core.units import command_line

MODEL, LORA, CONFIG = "model", "lora.safetensors", "config.json"


def model_of_run(folder: Path) -> Path:
    """Return the folder of the model of a training run, or `folder` itself if it is no training run.

    InputError, with what to do instead, if the run has not written a model, or trained something else.
    """
    config = _config(folder)
    if config is None:
        return folder
    if (folder / MODEL).is_dir():
        return folder / MODEL
    recipe = next((name for name in config if name != "loop"), "RECIPE")
    if (folder / LORA).exists():
        base = _base(config.get(recipe))
        words = ["--model", base or "MODEL", "--lora", str(folder)]
        raise InputError(
            f"{folder} holds a LoRA, not a model: give the model that it was trained on and the LoRA, {command_line(words)}"
        )
    if (folder / "vae").is_dir() or (folder / "text_encoder").is_dir():
        raise InputError(f"{folder} is a training of a part of a model ({recipe}): train a video network with it first")
    raise InputError(
        f"{folder} is a training that has written no model yet: finish it with the command that began it, "
        f"`{command_line(['longtake', 'train', recipe, 'CONFIG.toml', '-o', str(folder)])}`"
    )


def lora_of_run(path: Path) -> Path:
    """Return the file of the LoRA that a training run has written, or `path` itself if it is no such run."""
    return path / LORA if (path / LORA).exists() and _config(path) is not None else path


def _config(folder: Path) -> dict[str, Any] | None:
    """Read the config of a training run; None if a folder is none."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and isinstance(config.get("loop"), dict) else None


def _base(table: Any) -> str:
    """Return the model that a recipe's table, or one inside it, names as `init`."""
    while isinstance(table, dict):
        if init := table.get("init"):
            return str(init)
        table = table.get("settings")
    return ""
