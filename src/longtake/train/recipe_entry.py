"""The registry line of a training recipe. It imports no torch, so that the command line can list recipes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from longtake.core.errors import InputError
from longtake.core.registry import load_reference

if TYPE_CHECKING:
    from longtake.train.interfaces import Recipe

Trains = Literal["vae", "text encoder", "video network", "adapter"]


@dataclass(frozen=True)
class RecipeEntry:
    """The registry line of a recipe: facts for the command line, the docs and the contract tests.

    module: where it lives. It defines CONFIG, the dataclass of its table; `make(config, out)`, which returns a `Recipe`
    (`make(config, out, recipes)` if `wraps`); `tiny(parts)`, a small table for the contract tests (see
    `longtake.testing.recipes.TinyParts`); optionally TINY_LR, the learning rate of that test; and `estimate(config)`,
    lines on memory and cost of a run if the recipe can tell them without weights.
    title, about: for lists. trains: what kind of module. samples: it draws `objectives.velocity.Sample`s, so that other
    recipes can train on top of it. wraps: it trains on top of another recipe. example: an example config.
    """

    module: str
    title: str
    about: str
    trains: Trains = "video network"
    samples: bool = False
    wraps: bool = False
    example: str = ""

    def part(self, name: str, default: Any = None) -> Any:
        """Return what the module defines under a name, such as CONFIG or estimate. InputError if it cannot be imported."""
        return getattr(load_reference(f"the recipe {self.title!r}", self.module), name, default)

    def make(self, config: Mapping[str, Any], out: Path, recipes: Mapping[str, RecipeEntry]) -> Recipe:
        """Make the recipe from its table and the run's folder. recipes: those that it may train on top of."""
        more = (recipes,) if self.wraps else ()
        if (make := self.part("make")) is None:
            raise InputError(f"the recipe {self.title!r} has no function make in {self.module}: see RecipeEntry")
        recipe: Recipe = make(config, out, *more)
        return recipe
