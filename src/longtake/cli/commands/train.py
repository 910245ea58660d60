"""train: run a training recipe, or resume it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from longtake.cli.completers import RECIPE
from longtake.cli.flags.recipe import print_recipe_help
from longtake.core.errors import SettingsError
from longtake.core.files import read_toml
from longtake.core.process.notices import notice

__all__ = ["print_recipe_help", "train"]


def train(
    recipe: Annotated[str | None, RECIPE] = None,
    config: Path | None = None,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    changes: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    steps: int | None = None,
    dry_run: bool = False,
) -> int:
    """Train a model, or resume a training that was stopped.

    Args:
        recipe: Name of the recipe (default: list all). `longtake train RECIPE --help` lists the keys of its config.
        config: A .toml file with a table [loop] and one named after the recipe.
        output: Folder for checkpoints and logs.
        changes: A key of the config and its value, in place of what the file says, such as loop.lr=1e-4. It may be given several times.
        steps: Steps of the whole run, in place of what the file says.
        dry_run: Print the memory and the work that the training takes, then stop; no weights or data are loaded.
    """
    if recipe is None:
        return _list()
    from longtake.train.recipes.registry import RECIPES
    from longtake.train.whole_config import with_changes

    RECIPES[recipe]  # raises an error that names the nearest recipe
    table = with_changes({} if config is None else read_toml(config), recipe, changes, steps)
    if dry_run:
        return _dry_run(recipe, table)
    if output is None:
        raise SettingsError("give the folder for checkpoints and logs with -o FOLDER")
    from longtake.models.runtime.unused_gpu import unused_gpu
    from longtake.train.loop import run

    if why := unused_gpu():
        notice(f"{why}; this training runs on the CPU")
    run(recipe, table, output, RECIPES)
    return 0


def _list() -> int:
    """List the recipes with an example config of each."""
    from rich.console import Console
    from rich.table import Table

    from longtake.train.recipes.registry import RECIPES

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, entry in RECIPES.items():
        table.add_row(f"[bold]{name}[/]", entry.about)
    Console(highlight=False).print(table)
    print("\nlongtake train RECIPE CONFIG.toml -o FOLDER starts or resumes one; examples/train/ has configs.")
    print("longtake train RECIPE --help lists the keys of its config.")
    return 0


def _dry_run(recipe: str, table: dict[str, Any]) -> int:
    from longtake.train.recipes.registry import RECIPES
    from longtake.train.whole_config import read_config

    read_config(recipe, table, RECIPES)
    estimate = RECIPES[recipe].part("estimate")
    if estimate is None:
        raise SettingsError(f"the recipe {recipe} cannot estimate its memory: run it without --dry-run")
    for line in estimate(table):
        print(line)
    return 0
