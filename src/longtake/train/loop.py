"""The only optimiser loop: a recipe gives losses, the loop turns them into checkpoints.

Under torchrun gradients are summed over the processes, or weights are laid out over them (see shards); rank 0 keeps the
books.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from longtake.models.fuse import CompileError, fuse
from longtake.train.books import Books, Report, open_board
from longtake.train.checkpoint import CheckpointError, newest_checkpoint, write_json
from longtake.train.config import ConfigError, read_table, refuse_unknown
from longtake.train.folder import (
    check_best,
    claim,
    claim_data,
    claim_frozen,
    is_best,
    read_checked,
    write_best,
    write_checked,
)
from longtake.train.optim import make_optimisers
from longtake.train.place import place
from longtake.train.ranks import agree, join_ranks, leave_ranks, ranks, share_start, step_rng
from longtake.train.settings import DTYPES, MakeRecipe, NamesScores, Recipe, Settings
from longtake.train.shards import Loss, make_step, moving, recomputing
from longtake.train.stop import Stop
from longtake.train.trainer import Run


def run(recipe: str, config: Mapping[str, Any], out: Path, report: Callable[[str], None] = print) -> Path:
    """Train a registered recipe, or go on where the folder's newest checkpoint stopped. The folder.

    config has a table [loop] (see Settings) and a table named after the recipe. Writes config.json, log.jsonl and
    step-000000/ checkpoints into out, and calls report with progress lines. ConfigError says what cannot be followed.
    """
    from longtake.train.recipes import RECIPES

    if recipe not in RECIPES:
        raise ConfigError(f"no recipe {recipe!r}; there are: {', '.join(RECIPES)}")
    refuse_unknown(config, ["loop", *RECIPES], "the config")
    for name, table in config.items():
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"the config says {name} = {table!r}, but {name} is a table: write [{name}] above its settings"
            )
    settings = read_settings(config)
    check_steps(config.get(recipe, {}), settings.steps, recipe)
    joined = join_ranks()
    claim(out, config)
    torch.manual_seed(settings.seed)  # the recipe draws the first weights
    say = report if not ranks()[0] else _nothing
    train(RECIPES[recipe](config.get(recipe, {}), out), settings, out, say, dict(config))
    if joined:
        leave_ranks()
    return out


def read_settings(config: Mapping[str, Any]) -> Settings:
    """The table [loop] of a config. ConfigError says what is wrong with it."""
    if "loop" not in config:
        raise ConfigError("the config has no table [loop]: give one with at least `steps`")
    return read_table(Settings, config["loop"], "loop")


def check_steps(table: Mapping[str, Any], steps: int, name: str) -> None:
    """ConfigError if the table of a recipe, or of one inside it, says another number of steps than [loop] does."""
    if (own := table.get("steps", 0)) and own != steps:
        raise ConfigError(
            f"[{name}] steps is {own}, and [loop] steps is {steps}: both are those of the whole run, so give the same"
        )
    if isinstance(inside := table.get("settings"), Mapping):
        check_steps(inside, steps, f"{name}.settings")


def train(
    recipe: Recipe, settings: Settings, out: Path, report: Callable[[str], None] = print, config: Any = None
) -> Path:
    """See `run`; for a recipe already made."""
    claim(out, config or {"loop": asdict(settings)})
    claim_data(out, recipe)
    claim_frozen(out, recipe, report)
    run = begin(recipe, settings, out, report)
    if (newest := newest_checkpoint(out)) is not None:
        run.load(newest)
        report(f"going on from step {run.step}")
    elif not ranks()[0]:
        write_checked(out, 0)
    if settings.tensorboard and not ranks()[0]:
        run.books.board = open_board(out, run.step)
    try:
        with Stop() as stop:
            _go_on(run, stop)
        run.with_average(lambda: recipe.finish(out))
    finally:
        run.books.close()
    return out


def _go_on(run: Run, stop: Stop) -> None:
    """All steps that are left. A wish to stop is fulfilled after a step; an error loses none of those before it."""
    first = run.step
    try:
        if not agree(not _owes_check(run)):
            _check(run, saved=True)
        while run.step < run.settings.steps:
            _keep_books(run, run.advance())
            if not agree(not stop.wished):
                _save_and_stop(run, stop)
    except CheckpointError:
        raise
    except (ValueError, OSError):
        if run.step > first and ranks()[1] == 1:  # a rank alone cannot save
            _save_what_was_learnt(run)
        raise


def begin(recipe: Recipe, settings: Settings, out: Path, report: Callable[[str], None] = print) -> Run:
    """A run at step 0, its weights shared with the other ranks. ConfigError if the settings do not suit the recipe."""
    if settings.best and isinstance(recipe, NamesScores) and (names := recipe.scores()) is not None:
        check_best(settings.best, names)
    module = recipe.module.to(place())
    share_start(module)
    if settings.checkpointing:
        _recompute(recipe)
    if settings.compile:
        _compile(recipe, settings)
    step = make_step(recipe, settings.shard, DTYPES[settings.dtype])
    optimisers = make_optimisers(module, settings.optimiser, settings.lr, settings.weight_decay)
    ema = {name: tensor.detach().clone() for name, tensor in moving(module).items()}
    return Run(recipe, settings, out, step, optimisers, ema, Books(out, report, settings.steps))


def _recompute(recipe: Recipe) -> None:
    """Switch gradient checkpointing on. ConfigError if no network of the recipe has it."""
    networks = recomputing(recipe.module)
    if not networks:
        raise ConfigError(
            "[loop] checkpointing = true, but this recipe's network cannot recompute layers: leave it out"
        )
    for net in networks:
        net.checkpointing = True  # type: ignore[assignment]


def _compile(recipe: Recipe, settings: Settings) -> None:
    """Compile the layers of the recipe's networks. ConfigError if that cannot be."""
    networks = [net for net in recomputing(recipe.module) if hasattr(net, "blocks")]
    if not networks:
        raise ConfigError("[loop] compile = true, but this recipe's network has no layers to compile: leave it out")
    if settings.shard != "none":
        raise ConfigError('[loop] compile = true goes with shard = "none" only: choose one of them')
    for net in networks:
        try:
            fuse(net.blocks, next(net.parameters()).device)  # type: ignore[arg-type]
        except CompileError as error:
            raise ConfigError(f"[loop] compile = true, but {error}") from error


def _keep_books(run: Run, told: Report) -> None:
    """Log, save and check where the settings say so; stop after too many steps that had to be skipped."""
    settings, books, last = run.settings, run.books, run.step == run.settings.steps
    books.saw(told)
    first = not ranks()[0]
    if told.bad and first:
        books.skipped(run.step - 1, told)
    if run.bad > settings.skips:
        _give_up(run, told)
    if run.step % settings.log == 0 or last:
        books.line(run.step, told.lr, first)
    saved = bool(settings.save and run.step % settings.save == 0) or last
    if saved:
        run.save()
    if _is_due(run):
        _check(run, saved)


def _is_due(run: Run) -> bool:
    """Whether there is a check after the step that was made last."""
    every = run.settings.check
    return bool(every) and (run.step % every == 0 or run.step == run.settings.steps)


def _owes_check(run: Run) -> bool:
    """Whether the run was killed in the check of the step that it goes on from (earlier versions did not note checks)."""
    checked = read_checked(run.out)
    return run.step > 0 and checked is not None and checked < run.step and _is_due(run)


def _check(run: Run, saved: bool) -> None:
    """Write the recipe's scores with the averaged weights, and keep the checkpoint if they are the best."""
    scores = run.with_average(lambda: run.recipe.check(run.step, run.out))
    best = run.settings.best
    if scores:
        run.books.scores(run.step, scores)
    better = bool(best) and (ranks()[0] == 0 and is_best(run.out, best, scores))
    if best and not agree(not better):
        if not saved:
            run.save()
        if better:
            write_best(run.out, best, scores, run.step)
    if not ranks()[0]:
        write_checked(run.out, run.step)


def _give_up(run: Run, told: Report) -> None:
    """Save the weights, which the bad steps have not moved, and say which batches were bad."""
    count, run.bad = run.bad, 0
    folder = run.save()
    raise FloatingPointError(
        f"the loss or its gradient was no number in {count} steps in a row; the last was step {run.step - 1}: {told.bad}. {folder} has "
        f"the weights from before them. Look at these batches, or start in another folder with a lower lr than "
        f"{run.settings.lr:g}"
    )


def _save_and_stop(run: Run, stop: Stop) -> None:
    folder = run.save()
    run.books.report(f"stopped at step {run.step}; {folder} is saved: the same command goes on from there")
    raise stop.raised()


def _save_what_was_learnt(run: Run) -> None:
    """Save after an error, which has moved no weight; if that fails too, the first error is the one to tell."""
    with suppress(CheckpointError):
        folder = run.save()
        run.books.report(f"an error after step {run.step}; {folder} is saved: the same command goes on from there")


def _nothing(line: str) -> None:
    pass


__all__ = [
    "Loss",
    "MakeRecipe",
    "Recipe",
    "Settings",
    "newest_checkpoint",
    "ranks",
    "run",
    "step_rng",
    "train",
    "write_json",
]
