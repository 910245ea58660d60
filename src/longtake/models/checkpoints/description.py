"""The description of a checkpoint of one's own, longtake.json: its keys, their values, and how it is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longtake.core.registry import suggestion
from longtake.models.checkpoints.disk import WeightsError, read_json

LARGEST = 10**6  # of any number in it


def _number(value: Any, least: float = 0) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value) and least <= value <= LARGEST


def _whole(value: Any) -> bool:
    return isinstance(value, int) and _number(value, 1)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(_number(one) and one > 0 for one in value)


Rule = tuple[Callable[[Any], bool], str]  # a test of a value, and what the value must be
TEXT: Rule = (lambda value: isinstance(value, str), "a text")
TABLE: Rule = (lambda value: isinstance(value, dict), "an object")
SWITCH: Rule = (lambda value: isinstance(value, bool), "true or false")
COUNT: Rule = (_whole, f"a whole number from 1 to {LARGEST}")
SCALE: Rule = (lambda value: _number(value, -LARGEST), f"a number of at most {LARGEST}")
RATE: Rule = (lambda value: _number(value) and value > 0, f"a number above 0 and at most {LARGEST}")
RATES: Rule = (lambda value: _numbers(value) and bool(value), "a list of numbers above 0")
SIZE: Rule = (
    lambda value: isinstance(value, list) and len(value) == 2 and all(map(_whole, value)),
    "a list of height and width in pixels",
)
NAME: Rule = (lambda value: isinstance(value, str) and Path(value).name == value, "the name of a folder beside it")
DECODE: Rule = (
    lambda value: isinstance(value, dict) and all(_number(one) and one <= 1 for one in value.values()),
    "an object with timestep and noise, numbers from 0 to 1",
)

RULES: dict[str, Rule] = {
    "name": TEXT, "family": TEXT, "kind": TEXT, "about": TEXT, "vocabulary": TEXT, "clips": TABLE, "shares": NAME,
    "fps": RATE, "rates": RATES, "size": SIZE, "max_latent_frames": COUNT, "block": COUNT, "causal": SWITCH,
    "whole_timesteps": SWITCH, "decode": DECODE, "strategy": TEXT, "strategy_options": TABLE, "sampling_options": TABLE,
    "guidance_scale": SCALE, "negative_prompt": TEXT, "solver": TEXT,
}  # fmt: skip
KEYS = tuple(RULES)


def read_description(path: Path) -> dict[str, Any]:
    """Read a longtake.json. Raises WeightsError if it cannot be read, or has a key or a value that no model reads."""
    about = read_json(path)
    for key, value in about.items():
        if key not in RULES:
            raise WeightsError(f"{path} has the key {key!r}, which nothing reads: {suggestion(key, KEYS)}")
        fits, wanted = RULES[key]
        if not fits(value):
            raise WeightsError(f"{path} states {str(value)[:60]!r} as {key}: it must be {wanted}")
    return about


def part_folder(folder: Path, name: str) -> Path:
    """Return the folder of a part: inside the model's folder, or in the sibling folder that longtake.json `shares` with."""
    about = folder / "longtake.json"
    lender = read_description(about).get("shares") if about.exists() and not (folder / name).is_dir() else None
    return folder.parent / lender / name if lender else folder / name
