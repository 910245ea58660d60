"""A recipe inside another one: how it is made from its name and table, and its optional methods with fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from longtake.core.errors import ConfigError
from longtake.train.interfaces import DescribesBatch, HasData, NamesInputs, NamesScores, ReadsFrozen, Recipe, Result
from longtake.train.recipe_entry import RecipeEntry


def make_inner(
    recipes: Mapping[str, RecipeEntry], name: str, table: Mapping[str, Any], out: Path, outer: str,
    suits: Callable[[RecipeEntry], bool],
) -> Any:  # fmt: skip
    """Make the recipe that the recipe `outer` trains on top of. ConfigError if there is none of that name that suits."""
    if name not in recipes or not suits(recipes[name]):
        options = ", ".join(each for each in recipes if suits(recipes[each]))
        raise ConfigError(f"[{outer}] recipe is {name!r}; it must be one of {options}")
    return recipes[name].make(table, out, recipes)


def is_uniform(inner: Recipe) -> bool:
    """Whether all batches of a recipe make the same calls of the network."""
    return bool(getattr(inner, "uniform", False))


def dataset_of(inner: Recipe) -> Mapping[str, Any]:
    """Return facts about the data of a recipe, as far as it has any."""
    return inner.dataset() if isinstance(inner, HasData) else {}


def frozen_with_init(inner: Recipe) -> Mapping[str, Sequence[Path]]:
    """Return the files of a recipe's frozen weights and of the network that it starts from, which stays frozen too."""
    return inner.frozen(init=True) if isinstance(inner, ReadsFrozen) else {}


def description_of(inner: Recipe, step: int, generator: torch.Generator) -> str:
    """Describe a batch of a recipe, if it can."""
    return inner.describe(step, generator) if isinstance(inner, DescribesBatch) else "a batch of the recipe"


def scores_of(inner: Recipe) -> Sequence[str] | None:
    """Return the names of a recipe's scores, or None if they are not known yet."""
    return inner.scores() if isinstance(inner, NamesScores) else None


def lora_result(inner: Recipe, out: Path, init: str) -> Result:
    """Return the LoRA that a run has written. init: the model or run of whose network it is, "" if it was a new one."""
    inputs = inner.inputs(out) if isinstance(inner, NamesInputs) else ()
    words = ["longtake", "generate", *inputs, "--model", init, "--lora", str(out)] if init and inputs else []
    return Result("LoRA", out / "lora.safetensors", words)
