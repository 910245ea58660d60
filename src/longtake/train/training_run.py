"""A training run in flight: one optimiser step at a time, to a checkpoint and back.

All random numbers of a step follow from its number, so a resumed run repeats an uninterrupted one exactly. A step has
ranks x accumulate batches, and which process draws which of them changes only rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from longtake.core.errors import ConfigError
from longtake.core.flat_config import to_flat
from longtake.train.interfaces import DescribesBatch, Loss, Recipe, SavesState
from longtake.train.loop_config import LoopConfig
from longtake.train.run import checkpoint
from longtake.train.run.device import DTYPES
from longtake.train.run.distributed import full, gather_texts, local, ranks, share_gradients, step_generator, summed
from longtake.train.run.fsdp import LossModule, averaged, gathered, shard_module, trained_tensors
from longtake.train.run.log import StepResult, TrainLog
from longtake.train.run.optimisers import average, load_optimiser_state, optimiser_state, schedule
from longtake.train.run_folder import read_best


def loss_module(recipe: Recipe, config: LoopConfig) -> LossModule:
    """Wrap the loss of a recipe for the loop, sharded over the ranks as the config says."""

    def weighted(step: int, generator: torch.Generator) -> Loss:
        loss = recipe.loss(step, generator)
        return loss if isinstance(loss, Loss) else Loss(loss, 1.0)

    uniform = bool(getattr(recipe, "uniform", False))
    return shard_module(recipe.module, weighted, config.compute.shard, DTYPES[config.compute.dtype], uniform)


@dataclass
class TrainingRun:
    """A training run in flight. bad_steps: consecutive steps that were skipped so far."""

    recipe: Recipe
    config: LoopConfig
    out: Path
    loss: LossModule
    optimisers: list[torch.optim.Optimizer]
    ema: dict[str, torch.Tensor]
    log: TrainLog
    step: int = 0
    bad_steps: int = 0

    @property
    def batches(self) -> int:
        """Batches of a step, over all ranks."""
        return ranks()[1] * self.config.update.accumulate

    def advance(self) -> StepResult:
        """Make one step; no weight moves if a loss or the gradient is non-finite."""
        lr = self._prepare()
        losses = [self._backward(number) for number in self._batch_numbers()]
        total, weight = summed([sum(numbers) for numbers in zip(*losses)])
        norm = self._clip(weight)
        result = StepResult(total / max(weight, 1e-12), norm, lr)
        if math.isfinite(total) and math.isfinite(norm):
            for optimiser in self.optimisers:
                optimiser.step()
            average(self.ema, trained_tensors(self.recipe.module), self.step, self.config.update.ema)
        else:
            bad = self._describe_bad([loss for loss, _ in losses], math.isfinite(total))
            result = StepResult(result.loss, norm, lr, bad)
        self.bad_steps = self.bad_steps + 1 if result.bad else 0
        self.step += 1
        return result

    def _prepare(self) -> float:
        """Clear the gradients and set the learning rate, which is returned."""
        config = self.config
        lr = config.update.lr * schedule(self.step, config.steps, config.update.warmup, config.update.decay)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = lr
        return lr

    def _batch_numbers(self) -> range:
        """Return the batches of the step that this rank draws."""
        first = ranks()[0] * self.config.update.accumulate
        return range(first, first + self.config.update.accumulate)

    def _generator(self, number: int) -> torch.Generator:
        return step_generator(self.config.seed, self.step, number, self.batches)

    def _backward(self, number: int) -> tuple[float, float]:
        """Add the gradient of a batch; return its summed loss and its weight."""
        generator = self._generator(number)
        torch.manual_seed(generator.initial_seed() + (1 << 62))  # for layers with random numbers of their own: dropout
        with self.autocast():
            loss = self.loss(self.step, generator)
        loss.total.backward()
        return loss.total.item(), float(loss.weight)

    def _clip(self, weight: float) -> float:
        """Average the gradient over all batches of all ranks and clip it to `grad_clip`; return its norm before."""
        trained = [p for p in self.recipe.module.parameters() if p.requires_grad]
        if self.loss.sharded:
            scale = ranks()[1] / max(weight, 1e-12)  # FSDP has taken the mean over ranks
        else:
            share_gradients(trained)
            scale = 1 / max(weight, 1e-12)
        grads = [p.grad for p in trained if p.grad is not None]
        if scale != 1:
            torch._foreach_mul_(grads, scale)
        return float(full(nn.utils.clip_grad_norm_(trained, self.config.update.grad_clip)))

    def _describe_bad(self, losses: list[float], gradient: bool) -> str:
        """Describe the batches of all ranks with a non-finite loss; all batches if the gradient is non-finite."""
        bad = [
            (number, loss) for number, loss in zip(self._batch_numbers(), losses) if gradient or not math.isfinite(loss)
        ]
        with gathered(self.loss), torch.no_grad():  # a recipe may draw with its network
            words = [f"batch {n + 1} of {self.batches}, loss {loss}{self._describe(n)}" for n, loss in bad]
        everyone = [text for text in gather_texts("; ".join(words)) if text]
        return ("the gradient, of " if gradient else "") + ("; ".join(everyone) or "the sum of the losses")

    def _describe(self, number: int) -> str:
        if not isinstance(self.recipe, DescribesBatch):
            return ""
        return f" ({self.recipe.describe(self.step, self._generator(number))})"

    def autocast(self) -> AbstractContextManager:
        """Return the context in which networks compute in the config's dtype."""
        if self.config.compute.dtype == "fp32":
            return nullcontext()
        return torch.autocast(next(self.recipe.module.parameters()).device.type, DTYPES[self.config.compute.dtype])

    def with_average(self, work: Callable[[], Any]) -> Any:
        """Run `work` on rank 0 with the averaged weights in the module; return None on the other ranks."""
        if ranks()[0] and not self.loss.sharded:
            return None
        with averaged(self.loss, self.ema), torch.no_grad():
            if ranks()[0]:
                return None
            with self.autocast() if self.loss.sharded else nullcontext():
                return work()

    # ------------------------------------------------------------ checkpoints
    def save(self) -> Path:
        """Write a checkpoint, if this step has none yet, and remove old ones."""
        if (done := checkpoint.checkpoint_folder(self.out, self.step)).is_dir():
            return done
        weights = dict(self.recipe.module.state_dict())
        if getattr(self.recipe, "restores_frozen", False):
            weights = {name: weights[name] for name in trained_tensors(self.recipe.module)}
        parts = {
            "model": weights,
            "ema": weights | self.ema,
            "optimiser": optimiser_state(self.recipe.module, self.optimisers),
        }
        state = {
            "step": self.step,
            "batches": self.batches,
            "bad_steps": self.bad_steps,
            "config": to_flat(self.config),
        }
        files = self.recipe.save_state if isinstance(self.recipe, SavesState) else None
        folder = checkpoint.save(self.out, self.step, parts, state | self.log.state(), files)
        checkpoint.prune(self.out, self.config.record.keep_checkpoints, read_best(self.out).get("checkpoint", ""))
        return folder

    def load(self, folder: Path) -> None:
        """Restore the run from a checkpoint. ConfigError if its steps had another number of batches."""
        module, state = self.recipe.module, checkpoint.state(folder)
        if (before := state["batches"]) != self.batches:
            raise ConfigError(
                f"{folder} was trained with {before} batches a step, and {ranks()[1]} processes x accumulate "
                f"{self.config.update.accumulate} make {self.batches}: choose them so that they make {before}"
            )
        like = dict(module.state_dict())
        weights = checkpoint.read(folder, "model", like)
        needed = trained_tensors(module) if getattr(self.recipe, "restores_frozen", False) else like
        if missing := sorted(needed.keys() - weights.keys()):
            raise ConfigError(f"{folder} has no {missing[0]} ({len(missing)} are missing): it is of another network")
        module.load_state_dict(like | weights)
        ema = checkpoint.read(folder, "ema", like)
        with torch.no_grad():
            for name, tensor in self.ema.items():
                local(tensor).copy_(local(ema[name]))
        load_optimiser_state(module, self.optimisers, checkpoint.read(folder, "optimiser", like))
        self.step, self.bad_steps = state["step"], state["bad_steps"]
        self.log.load(state, self.step, not ranks()[0])
        if isinstance(self.recipe, SavesState):
            self.recipe.load_state(folder)
