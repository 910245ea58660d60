"""The last lines of a training run: where its result is, and the command that tries it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from longtake.core.units import command_line
from longtake.train.interfaces import LeavesResult, Recipe


def closing_lines(recipe: Recipe, out: Path) -> Iterator[str]:
    """Yield lines on what a finished run has left in its folder."""
    result = recipe.result(out) if isinstance(recipe, LeavesResult) else None
    if result is None:
        yield f"finished; the weights are in the newest checkpoint in {out}"
        return
    yield f"finished; the {result.what} is in {result.path}"
    if result.words:
        yield f"try it: {command_line(result.words)}"
    if result.key:
        yield f'the config of another training takes it: {result.key} = "{result.path}"'
