"""What the shell proposes for a value of the command line: names from the registries, run directories, folders.

A completer is a function of the word so far that returns each value with a few words on it; it imports what it needs, and
nothing that needs torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

Values = Mapping[str, str]
MOST_FOLDERS = 500  # entries of a folder that are looked at, so that the Tab key never waits


def completed_by(values: Callable[[str], Values]) -> Parameter:
    """Return the parameter of a flag or an argument whose values a completer proposes."""

    def propose(context: CompletionContext) -> Values:
        return values(context.incomplete)

    return Parameter(completer=propose)


def strategies(word: str) -> Values:
    """Return the strategies."""
    from longtake.planning.strategies.registry import STRATEGIES

    return {name: strategy.about for name, strategy in STRATEGIES.items()}


def presets(word: str) -> Values:
    """Return the released checkpoints."""
    from longtake.models.registry import presets as released

    return {name: one.kind for name, one in released().items()}


def models(word: str) -> Values:
    """Return the built-in models, the toy models, the released checkpoints and the folders that the word begins."""
    from longtake.models.locate import builtin
    from longtake.models.registry import toy_families

    own = {name: "built in" for name in builtin()} | {toy.name: toy.description for toy in toy_families()}
    return own | dict(presets(word)) | {f"{folder}/": "" for folder in _folders(word)}


def recipes(word: str) -> Values:
    """Return the training recipes."""
    from longtake.train.recipes.registry import RECIPES

    return {name: entry.about for name, entry in RECIPES.items()}


def runs(word: str) -> Values:
    """Return the run directories that the word begins, those in `out` too; if there are none, the folders."""
    found = list(_folders(word))
    places = [
        *found,
        *(path for place in ([*found, Path("out")] if not word else found) for path in _folders(f"{place}/")),
    ]
    there = {str(path): "run directory" for path in places if (path / "run.json").is_file()}
    return there or {f"{folder}/": "" for folder in found}


def _folders(word: str) -> Iterator[Path]:
    """Yield the folders whose paths begin with a word, hidden ones only if the word asks for them."""
    place, _, start = word.rpartition("/")
    base = f"{place}/" if place or word.startswith("/") else ""
    try:
        with os.scandir(os.path.expanduser(base or ".")) as entries:
            some = [entry for entry, _ in zip(entries, range(MOST_FOLDERS))]
        for entry in sorted(some, key=lambda entry: entry.name):
            if entry.name.startswith(start) and (start or not entry.name.startswith(".")) and entry.is_dir():
                yield Path(base + entry.name)
    except OSError:
        return


STRATEGY, MODEL, PRESET, RECIPE = (completed_by(values) for values in (strategies, models, presets, recipes))
RunFolder = Annotated[Path, completed_by(runs)]
BY_FIELD = {"strategy": STRATEGY, "model": MODEL}  # of the options classes that become flags
