"""The only optimiser loop: a recipe gives losses, the loop turns them into checkpoints.

Under torchrun gradients are summed over the processes, or weights are sharded over them (see `run.fsdp`); rank 0 writes
the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from longtake.core.errors import ConfigError
from longtake.core.flat_config import to_flat
from longtake.models.runtime.compile import CompileError, compile_blocks
from longtake.train.closing import closing_lines
from longtake.train.interfaces import NamesScores, Recipe
from longtake.train.loop_config import LoopConfig
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.run.checkpoint import CheckpointError, newest_checkpoint
from longtake.train.run.curves import CURVES, write_curves
from longtake.train.run.device import process_device
from longtake.train.run.distributed import all_agree, join_ranks, leave_ranks, ranks, share_weights
from longtake.train.run.fsdp import checkpointable, trained_tensors
from longtake.train.run.log import LOG, StepResult, TrainLog, open_board
from longtake.train.run.optimisers import make_optimisers
from longtake.train.run.signals import StopRequest
from longtake.train.run_folder import (
    check_best,
    claim,
    claim_data,
    claim_frozen,
    is_best,
    read_evaluated,
    write_best,
    write_evaluated,
)
from longtake.train.training_run import TrainingRun, loss_module
from longtake.train.whole_config import read_config


def run(
    recipe: str, config: Mapping[str, Any], out: Path, recipes: Mapping[str, RecipeEntry],
    report: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Train a registered recipe, or resume from the newest checkpoint of the folder. Returns the folder.

    config has a table [loop] (see `LoopConfig`) and a table named after the recipe. Writes config.json, log.jsonl and
    step-000000/ checkpoints into out, and calls report with progress lines. ConfigError says what cannot be followed.
    """
    if recipe not in recipes:
        raise ConfigError(f"there is no recipe {recipe!r}; the recipes are: {', '.join(recipes)}")
    settings = read_config(recipe, config, recipes)
    joined = join_ranks()
    claim(out, config)
    torch.manual_seed(settings.seed)  # the recipe draws the initial weights
    made = recipes[recipe].make(config.get(recipe, {}), out, recipes)
    train(made, settings, out, report if not ranks()[0] else _nothing, dict(config))
    if joined:
        leave_ranks()
    return out


def train(
    recipe: Recipe, config: LoopConfig, out: Path, report: Callable[[str], None] = print, tables: Any = None
) -> Path:
    """Train a recipe that is already made, or resume from the newest checkpoint of the folder `out`, which is returned.

    tables: the whole config, which a resumed run must repeat.
    """
    claim(out, tables or {"loop": to_flat(config)})
    claim_data(out, recipe)
    claim_frozen(out, recipe, report)
    run = begin(recipe, config, out, report)
    if (newest := newest_checkpoint(out)) is not None:
        run.load(newest)
        report(f"resuming from step {run.step}")
    elif not ranks()[0]:
        write_evaluated(out, 0)
    if config.record.tensorboard and not ranks()[0]:
        run.log.board = open_board(out, run.step)
    try:
        with StopRequest() as stop:
            _remaining_steps(run, stop)
        run.with_average(lambda: recipe.finish(out))
        if not ranks()[0]:
            for line in closing_lines(recipe, out):
                report(line)
    finally:
        run.log.close()
    return out


def begin(recipe: Recipe, config: LoopConfig, out: Path, report: Callable[[str], None] = print) -> TrainingRun:
    """Make a run at step 0, its weights shared with the other ranks. ConfigError if the config does not suit the recipe."""
    if config.record.best_metric and isinstance(recipe, NamesScores) and (names := recipe.scores()) is not None:
        check_best(config.record.best_metric, names)
    module = recipe.module.to(process_device())
    share_weights(module)
    if config.compute.checkpointing:
        _enable_checkpointing(recipe)
    if config.compute.compile:
        _compile(recipe, config)
    loss = loss_module(recipe, config)
    update = config.update
    optimisers = make_optimisers(module, update.optimiser, update.lr, update.weight_decay, update.betas)
    ema = {name: tensor.detach().clone() for name, tensor in trained_tensors(module).items()}
    return TrainingRun(recipe, config, out, loss, optimisers, ema, TrainLog(out, report, config.steps))


def _remaining_steps(run: TrainingRun, stop: StopRequest) -> None:
    """Make all remaining steps. A stop request takes effect after a step; an error loses none of the steps before it."""
    first = run.step
    try:
        if not all_agree(not _lacks_evaluation(run)):
            _evaluate(run, saved=True)
        while run.step < run.config.steps:
            _after_step(run, run.advance())
            if not all_agree(not stop.requested):
                _save_and_stop(run, stop)
    except CheckpointError:
        raise
    except (ValueError, OSError):
        if run.step > first and ranks()[1] == 1:  # a rank alone cannot save
            _save_after_error(run)
        raise


def _enable_checkpointing(recipe: Recipe) -> None:
    """Switch gradient checkpointing on. ConfigError if no network of the recipe has it."""
    networks = checkpointable(recipe.module)
    if not networks:
        raise ConfigError(
            "[loop] checkpointing = true, but this recipe's network cannot recompute layers: remove the key"
        )
    for net in networks:
        net.checkpointing = True  # type: ignore[assignment]


def _compile(recipe: Recipe, config: LoopConfig) -> None:
    """Compile the layers of the recipe's networks. ConfigError if they cannot be compiled."""
    networks = [net for net in checkpointable(recipe.module) if hasattr(net, "blocks")]
    if not networks:
        raise ConfigError("[loop] compile = true, but this recipe's network has no layers to compile: remove the key")
    if config.compute.shard != "none":
        raise ConfigError('[loop] compile = true needs shard = "none": choose one of them')
    for net in networks:
        try:
            compile_blocks(net.blocks, next(net.parameters()).device)  # type: ignore[arg-type]
        except CompileError as error:
            raise ConfigError(f"[loop] compile = true, but {error}") from error


def _after_step(run: TrainingRun, result: StepResult) -> None:
    """Log, save and evaluate where the config says so; stop after too many skipped steps."""
    record, log, last = run.config.record, run.log, run.step == run.config.steps
    log.record(result)
    first = not ranks()[0]
    if result.bad and first:
        log.record_skip(run.step - 1, result)
    if run.bad_steps > run.config.update.max_bad_steps:
        _give_up(run, result)
    if run.step % record.log_every == 0 or last:
        log.write(run.step, result.lr, first)
    saved = bool(record.save_every and run.step % record.save_every == 0) or last
    if saved:
        run.save()
    if _evaluates_now(run):
        _evaluate(run, saved)
    if first and (saved or _evaluates_now(run)):
        write_curves(run.out / LOG, run.out / CURVES)


def _evaluates_now(run: TrainingRun) -> bool:
    """Whether there is an evaluation after the last step that was made."""
    every = run.config.record.eval_every
    return bool(every) and (run.step % every == 0 or run.step == run.config.steps)


def _lacks_evaluation(run: TrainingRun) -> bool:
    """Whether the process was killed during the evaluation of the step from which it resumes."""
    evaluated = read_evaluated(run.out)
    return run.step > 0 and evaluated is not None and evaluated < run.step and _evaluates_now(run)


def _evaluate(run: TrainingRun, saved: bool) -> None:
    """Write the recipe's scores with the averaged weights, and keep the checkpoint if they are the best so far."""
    scores = run.with_average(lambda: run.recipe.evaluate(run.step, run.out))
    best = run.config.record.best_metric
    if scores:
        run.log.write_scores(run.step, scores)
    better = bool(best) and (ranks()[0] == 0 and is_best(run.out, best, scores))
    if best and not all_agree(not better):
        if not saved:
            run.save()
        if better:
            write_best(run.out, best, scores, run.step)
    if not ranks()[0]:
        write_evaluated(run.out, run.step)


def _give_up(run: TrainingRun, result: StepResult) -> None:
    """Save the weights, which bad steps do not move, and raise an error that describes the last bad batch."""
    count, run.bad_steps = run.bad_steps, 0
    folder = run.save()
    raise FloatingPointError(
        f"the loss or its gradient was non-finite in {count} consecutive steps; the last was step {run.step - 1}: "
        f"{result.bad}. {folder} has the weights from before them. Inspect these batches, or start in another folder "
        f"with a lower lr than {run.config.update.lr:g}"
    )


def _save_and_stop(run: TrainingRun, stop: StopRequest) -> None:
    folder = run.save()
    run.log.report(f"stopped at step {run.step}; {folder} is saved: run the same command to resume")
    raise stop.stopped()


def _save_after_error(run: TrainingRun) -> None:
    """Save after an error, which has moved no weight; if saving fails too, the first error is the one to report."""
    with suppress(CheckpointError):
        folder = run.save()
        run.log.report(f"an error after step {run.step}; {folder} is saved: run the same command to resume")


def _nothing(line: str) -> None:
    pass
