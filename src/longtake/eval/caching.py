"""Step caching, measured: its error against the exact run in decibels beside its gain; and a rule fitted to a network.

python -m longtake.eval.caching MODEL [--seconds 3] [--thresholds 0.05,0.1,0.2] [-o rule.json] [--rule rule.json]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from longtake.engine import Rollout
from longtake.events import Frames
from longtake.models import load
from longtake.models.base import Model
from longtake.models.cache import CacheError, Rule, StepCache, innermost, with_cache
from longtake.plan import Window
from longtake.plans import Plan, plan, suited
from longtake.script import Script


@dataclass(frozen=True)
class Case:
    """What is made: a model under a plan, from one prompt and seed."""

    model: Model
    plan: Plan
    script: Script
    seed: int = 0

    def run(self, make: Callable[[], StepCache | Watched | None]) -> tuple[Tensor, float]:
        """Frames (T, H, W, 3) uint8, and seconds, of a run whose sessions have these caches (None: no cache).

        On a CPU the seconds are of the processor, so that other work on the machine does not count.
        """
        rollout = Rollout(with_cache(self.model, make), self.script, self.plan, seeds=(self.seed,))
        clock = time.process_time if self.model.device == "cpu" else time.perf_counter
        start = clock()
        frames = [event.frames[0] for event in rollout.run() if isinstance(event, Frames)]
        return torch.cat(frames), clock() - start


@dataclass(frozen=True)
class Row:
    """What one threshold brings. made: share of the calls. faster: times. error: decibels of PSNR (higher is nearer)."""

    threshold: float
    made: float
    faster: float
    error: float


class Watched:
    """A cache that answers nothing and notes, call by call, how much the embedding and the layers' sum changed."""

    def __init__(self, pairs: list[tuple[float, float]], projected: bool = True):
        self.pairs, self.rule = pairs, Rule((), projected)

    def begin(self, window: Window | None) -> None:
        """See `StepCache`."""
        self.embedding: dict[int, Tensor] = {}
        self.added: dict[int, Tensor] = {}
        self.now: dict[int, Tensor] = {}

    def recall(self, row: int, moves: Sequence[int], embedding_FD: Tensor) -> None:
        """See `StepCache`: every call is made."""
        self.now = dict(zip(moves, embedding_FD))

    def store(self, moves: Sequence[int], added_BFSD: Tensor) -> None:
        """See `StepCache`."""
        for column, added in zip(moves, added_BFSD.unbind(1)):
            if column in self.added:
                told = relative(self.embedding[column], self.now[column])
                self.pairs.append((told, relative(self.added[column], added)))
            self.embedding[column], self.added[column] = self.now[column], added


def relative(before: Tensor, now: Tensor) -> float:
    """Mean change as a share of the mean size before."""
    return ((now.double() - before.double()).abs().mean() / before.double().abs().mean().clamp_min(1e-12)).item()


def fitted(pairs: Sequence[tuple[float, float]], steps: int, degree: int = 4) -> Rule:
    """The polynomial that best tells the second of each pair from the first. A tenth of the steps is always made."""
    if len(pairs) < 2:
        raise CacheError("too few calls to fit a rule: make more steps, or a longer video")
    told, changed = (np.array(column) for column in zip(*pairs))
    degree = min(degree, len(np.unique(told)) - 1)
    scale = told.max() or 1.0  # powers of small numbers would drown in each other
    coefficients = np.polyfit(told / scale, changed, degree)
    powers = scale ** np.arange(degree, -1, -1)
    return Rule(tuple((coefficients / powers).tolist()), projected=True, first=max(1, steps // 10), last=1)


def calibrated(case: Case, steps: int) -> Rule:
    """A rule fitted to an exact run that is watched."""
    pairs: list[tuple[float, float]] = []
    case.run(lambda: Watched(pairs))
    return fitted(pairs, steps)


def measured(case: Case, rule: Rule, thresholds: Sequence[float]) -> list[Row]:
    """What each threshold brings against the exact run."""
    rows, (exact, seconds) = [], case.run(lambda: None)
    for threshold in thresholds:
        caches: list[StepCache] = []

        def make(threshold: float = threshold, caches: list[StepCache] = caches) -> StepCache:
            caches.append(StepCache(rule, threshold))
            return caches[-1]

        frames, took = case.run(make)
        made, skipped = (sum(getattr(cache, name) for cache in caches) for name in ("made", "skipped"))
        rows.append(Row(threshold, made / (made + skipped), seconds / took, decibels(exact, frames)))
    return rows


def decibels(one: Tensor, two: Tensor) -> float:
    """PSNR of uint8 frames; infinite if they are equal."""
    error = (one.double() - two.double()).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def table(name: str, rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    made = Table(title=f"step caching of {name}, against the exact run")
    for column in ("threshold", "calls made", "times as fast", "error (PSNR)"):
        made.add_column(column, justify="right")
    for row in rows:
        made.add_row(f"{row.threshold:g}", f"{row.made:.0%}", f"{row.faster:.2f}", f"{row.error:.1f} dB")
    return made


def main(words: Sequence[str] | None = None) -> None:
    """Fit a rule or take one, and print what it brings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("model", help="what longtake.load takes")
    parser.add_argument("--prompt", default="a red ball drifts to the right over the sea")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--plan", help="a strategy (default: the model's)")
    parser.add_argument("--steps", type=int, help="model calls of a frame (default: the model's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--thresholds", default="0.05,0.1,0.2,0.4")
    parser.add_argument("--rule", type=Path, help="measure this rule instead of fitting one")
    parser.add_argument("-o", "--output", type=Path, help="where to write the fitted rule")
    args = parser.parse_args(words)
    try:
        model = load(args.model)
        if not hasattr(innermost(model.session()), "cache"):
            raise CacheError(f"{model.name} has no step caching")
        name = args.plan or model.plan
        own = suited(name, model.plan, model.options, model.sampling)
        strategy = plan(name, **{**own, **({"steps": args.steps} if args.steps else {})})
        case = Case(model, strategy, Script.of(args.prompt, model.fps, args.seconds), args.seed)
        rule = calibrated(case, strategy.steps)  # type: ignore[attr-defined]
        rule = Rule.read(args.rule) if args.rule else rule
        rows = measured(case, rule, [float(word) for word in args.thresholds.split(",")])
    except ValueError as error:
        Console(stderr=True).print(f"[red]{error}[/red]", highlight=False)
        sys.exit(2)
    if args.output:
        rule.write(args.output)
    Console().print(table(model.name, rows))


if __name__ == "__main__":
    main()
