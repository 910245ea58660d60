"""A training run in flight: one step at a time, to a checkpoint and back.

All chance of a step comes from its number, so a resumed run repeats an uninterrupted one exactly. A step has ranks x
accumulate batches, and which process draws which of them changes nothing but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtake.train import checkpoint
from longtake.train.books import Books, Report
from longtake.train.config import ConfigError
from longtake.train.folder import read_best
from longtake.train.optim import average, load_optimiser_state, optimiser_state, schedule
from longtake.train.ranks import local, ranks, share_gradients, step_rng, summed, told, whole
from longtake.train.settings import DTYPES, DescribesBatch, Recipe, Settings
from longtake.train.shards import Step, averaged, gathered, moving


@dataclass
class Run:
    """A training run in flight. bad: steps skipped in a row so far."""

    recipe: Recipe
    settings: Settings
    out: Path
    loss: Step
    optimisers: list[torch.optim.Optimizer]
    ema: dict[str, Tensor]
    books: Books
    step: int = 0
    bad: int = 0

    @property
    def batches(self) -> int:
        """Batches of a step, over all ranks."""
        return ranks()[1] * self.settings.accumulate

    def advance(self) -> Report:
        """One step; it moves nothing if a loss or the gradient is no number."""
        lr = self._prepare()
        losses = [self._backward(number) for number in self._numbers()]
        total, weight = summed([sum(numbers) for numbers in zip(*losses)])
        norm = self._clip(weight)
        report = Report(total / max(weight, 1e-12), norm, lr)
        if math.isfinite(total) and math.isfinite(norm):
            for optimiser in self.optimisers:
                optimiser.step()
            average(self.ema, moving(self.recipe.module), self.step, self.settings.ema)
        else:
            report = Report(report.loss, norm, lr, self._name_bad([loss for loss, _ in losses], math.isfinite(total)))
        self.bad = self.bad + 1 if report.bad else 0
        self.step += 1
        return report

    def _prepare(self) -> float:
        """Forget old gradients and set the learning rate, which is returned."""
        settings = self.settings
        lr = settings.lr * schedule(self.step, settings.steps, settings.warmup, settings.decay)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = lr
        return lr

    def _numbers(self) -> range:
        """Which batches of the step this rank draws."""
        first = ranks()[0] * self.settings.accumulate
        return range(first, first + self.settings.accumulate)

    def _rng(self, number: int) -> torch.Generator:
        return step_rng(self.settings.seed, self.step, number, self.batches)

    def _backward(self, number: int) -> tuple[float, float]:
        """Add the gradient of a batch; its loss, summed, and its weight."""
        rng = self._rng(number)
        torch.manual_seed(rng.initial_seed() + (1 << 62))  # for layers that draw their own chance, as dropout does
        with self.computing():
            loss = self.loss(self.step, rng)
        loss.total.backward()
        return loss.total.item(), float(loss.weight)

    def _clip(self, weight: float) -> float:
        """Make the gradient the mean over all batches of all ranks, and no longer than `clip`; its length before."""
        trained = [p for p in self.recipe.module.parameters() if p.requires_grad]
        if self.loss.shared:
            scale = ranks()[1] / max(weight, 1e-12)  # FSDP has taken the mean over ranks
        else:
            share_gradients(trained)
            scale = 1 / max(weight, 1e-12)
        grads = [p.grad for p in trained if p.grad is not None]
        if scale != 1:
            torch._foreach_mul_(grads, scale)
        return float(whole(nn.utils.clip_grad_norm_(trained, self.settings.clip)))

    def _name_bad(self, losses: list[float], steep: bool) -> str:
        """The batches of all ranks whose loss is no number, in words; all of them if it is the gradient (steep)."""
        bad = [(number, loss) for number, loss in zip(self._numbers(), losses) if steep or not math.isfinite(loss)]
        with gathered(self.loss), torch.no_grad():  # a recipe may draw with its network
            words = [f"batch {n + 1} of {self.batches}, loss {loss}{self._describe(n)}" for n, loss in bad]
        everyone = [text for text in told("; ".join(words)) if text]
        return ("the gradient, of " if steep else "") + ("; ".join(everyone) or "the sum of the losses")

    def _describe(self, number: int) -> str:
        if not isinstance(self.recipe, DescribesBatch):
            return ""
        return f" ({self.recipe.describe(self.step, self._rng(number))})"

    def computing(self) -> AbstractContextManager:
        """Where networks compute in the settings' dtype."""
        if self.settings.dtype == "fp32":
            return nullcontext()
        return torch.autocast(next(self.recipe.module.parameters()).device.type, DTYPES[self.settings.dtype])

    def with_average(self, work: Callable[[], Any]) -> Any:
        """Do something on rank 0 with the averaged weights; None on the others."""
        if ranks()[0] and not self.loss.shared:
            return None
        with averaged(self.loss, self.ema), torch.no_grad():
            if ranks()[0]:
                return None
            with self.computing() if self.loss.shared else nullcontext():
                return work()

    # ------------------------------------------------------------ checkpoints
    def save(self) -> Path:
        """Write a checkpoint, if this step has none yet; old ones go."""
        if (done := checkpoint.place(self.out, self.step)).is_dir():
            return done
        weights = dict(self.recipe.module.state_dict())
        if getattr(self.recipe, "restores_frozen", False):
            weights = {name: weights[name] for name in moving(self.recipe.module)}
        parts = {
            "model": weights,
            "ema": weights | self.ema,
            "optimiser": optimiser_state(self.recipe.module, self.optimisers),
        }
        state = {"step": self.step, "batches": self.batches, "bad": self.bad, "settings": asdict(self.settings)}
        files = getattr(self.recipe, "keep", None)
        folder = checkpoint.save(self.out, self.step, parts, state | self.books.state(), files)
        checkpoint.prune(self.out, self.settings.keep, read_best(self.out).get("checkpoint", ""))
        return folder

    def load(self, folder: Path) -> None:
        """Go back to where the run was when the checkpoint was written. ConfigError if its steps had other batches."""
        module, state = self.recipe.module, checkpoint.state(folder)
        if (before := state.get("batches", self.batches)) != self.batches:
            raise ConfigError(
                f"{folder} was trained with {before} batches a step, and {ranks()[1]} processes x accumulate "
                f"{self.settings.accumulate} make {self.batches}: choose them so that they make {before}"
            )
        like = dict(module.state_dict())
        weights = checkpoint.read(folder, "model", like)
        needed = moving(module) if getattr(self.recipe, "restores_frozen", False) else like
        if missing := sorted(needed.keys() - weights.keys()):
            raise ConfigError(f"{folder} has no {missing[0]} ({len(missing)} are missing): it is of another network")
        module.load_state_dict(like | weights)
        ema = checkpoint.read(folder, "ema", like)
        with torch.no_grad():
            for name, tensor in self.ema.items():
                local(tensor).copy_(local(ema[name]))
        load_optimiser_state(module, self.optimisers, checkpoint.read(folder, "optimiser", like))
        self.step, self.bad = state["step"], state.get("bad", 0)
        self.books.load(state, self.step, not ranks()[0])
        if hasattr(self.recipe, "recall"):
            self.recipe.recall(folder)
