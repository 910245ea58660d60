"""The config of a training as a whole: its tables, what the command line changes in it, and the checks across tables."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from longtake.core.errors import ConfigError
from longtake.core.flat_config import places
from longtake.train.loop_config import LoopConfig
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.toml_config import read_table, refuse_unknown

INNER = "settings"  # the key of a table in which a recipe holds the table of another one


def read_config(recipe: str, config: Mapping[str, Any], recipes: Mapping[str, RecipeEntry]) -> LoopConfig:
    """Check a config from its tables to the innermost key, and return what [loop] says. ConfigError says what is wrong."""
    _check_tables(recipe, config, recipes)
    own = recipes[recipe].part("CONFIG")
    refuse_unknown(config.get("loop", {}), places(LoopConfig), "[loop]", {recipe: places(own)} if own else {})
    settings = read_loop(config)
    check_steps(config.get(recipe, {}), settings.steps, recipe)
    _check_table(recipe, config.get(recipe, {}), recipes)
    return settings


def _check_tables(recipe: str, config: Mapping[str, Any], recipes: Mapping[str, RecipeEntry]) -> None:
    """Raise ConfigError unless a config has tables of the loop and of recipes alone, that of `recipe` among them if any."""
    refuse_unknown(config, ["loop", *recipes], "the config", {"loop": places(LoopConfig)})
    for name, table in config.items():
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"the config says {name} = {table!r}, but {name} is a table: write [{name}] above its settings"
            )
    if recipe not in config and (others := [name for name in config if name != "loop"]):
        raise ConfigError(
            f"this is a config of the recipe {others[0]}, with a table [{others[0]}] and none of [{recipe}]: train it with "
            f"`longtake train {others[0]}`, or give a config of {recipe}"
        )


def _check_table(recipe: str, table: Mapping[str, Any], recipes: Mapping[str, RecipeEntry]) -> None:
    """Read the table of a recipe, and that of the recipe inside it. ConfigError says what is wrong."""
    if (config := recipes[recipe].part("CONFIG")) is None:
        return
    refuse_unknown(table, places(config), f"[{recipe}]", {"loop": places(LoopConfig)})
    settings = read_table(config, table, recipe)
    if recipes[recipe].wraps and {"recipe", INNER} <= places(config).keys() and settings.recipe in recipes:
        _check_table(settings.recipe, getattr(settings, INNER), recipes)


def read_loop(config: Mapping[str, Any]) -> LoopConfig:
    """Read the table [loop] of a config. ConfigError says what is wrong with it."""
    if "loop" not in config:
        raise ConfigError("the config has no table [loop]: add one with at least `steps`")
    return read_table(LoopConfig, config["loop"], "loop")


def check_steps(table: Mapping[str, Any], steps: int, name: str) -> None:
    """Raise ConfigError if the table of a recipe, or one inside it, has another number of steps than [loop]."""
    if (own := table.get("steps", 0)) and own != steps:
        raise ConfigError(
            f"[{name}] steps is {own}, and [loop] steps is {steps}: both count the whole run, so set them to one number"
        )
    if isinstance(inside := table.get(INNER), Mapping):
        check_steps(inside, steps, f"{name}.{INNER}")


# ---------------------------------------------------------------- changes from the command line
def with_changes(
    config: Mapping[str, Any], recipe: str, changes: Sequence[str], steps: int | None = None
) -> dict[str, Any]:
    """Return a config with changes such as `loop.lr=1e-4`; a key without a table is one of [loop], else of the recipe.

    steps: of the whole run, wherever the config says them. ConfigError for a change that names no key and value.
    """
    changed = copy.deepcopy(dict(config))
    for text in changes:
        name, equals, value = text.partition("=")
        path = [part.strip() for part in name.split(".")]
        if not equals or not all(path):
            raise ConfigError(f"--set {text}: it must be a key and its value, such as --set loop.lr=1e-4")
        if path[0] not in ("loop", recipe):
            path = ["loop" if path[0] in places(LoopConfig) else recipe, *path]
        if path == ["loop", "steps"]:
            _set_steps(changed, recipe, parsed(value))
        else:
            _set(changed, path, parsed(value), text)
    if steps is not None:
        _set_steps(changed, recipe, steps)
    return changed


def parsed(text: str) -> Any:
    """Read a value as TOML has it: a number, true or false, a list, a table, or a text with or without quotes."""
    with suppress(tomllib.TOMLDecodeError):
        return tomllib.loads(f"value = {text.strip()}")["value"]
    with suppress(ValueError):
        return float(text)  # such as .5, which TOML does not have
    return text.strip()


def _set(config: dict[str, Any], path: Sequence[str], value: Any, text: str) -> None:
    table = config
    for depth, name in enumerate(path[:-1]):
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {text}: {'.'.join(path[: depth + 1])} is a value, not a table")
    table[path[-1]] = value


def _set_steps(config: dict[str, Any], recipe: str, steps: Any) -> None:
    """Set the steps of [loop], and those of the recipe and of the one inside it where they say some."""
    config.setdefault("loop", {})["steps"] = steps
    table = config.get(recipe)
    while isinstance(table, dict):
        if table.get("steps"):
            table["steps"] = steps
        table = table.get(INNER)
