"""Calibrate step caching for a model, and measure its speed and its error (PSNR) against the run without it.

python -m longtake.eval.step_cache MODEL [--seconds 3] [--thresholds 0.05,0.1,0.2] [-o FILE] [--calibration FILE]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from longtake.core.process.standard_streams import protect_streams
from longtake.core.sigmas import sigmas_of
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models import load
from longtake.models.model import Model
from longtake.models.runtime.calibration import Calibration, StepCacheError
from longtake.models.runtime.step_cache import SessionCache, StepCache, caching_sessions, with_session_cache
from longtake.planning.script import Script
from longtake.planning.strategies.registry import default_options_for, make_plan
from longtake.planning.window import Plan, Window


@dataclass(frozen=True)
class Case:
    """One benchmark video: a model, a strategy, a prompt and a seed."""

    model: Model
    plan: Plan
    script: Script
    seed: int = 0

    def run(self, make: Callable[[], SessionCache | None]) -> tuple[Tensor, float]:
        """Generate the video; return its frames (T, H, W, 3) uint8 and the seconds it took.

        make: returns the cache of each session, or None for no cache. On a CPU the seconds are processor time, so that
        other processes do not count.
        """
        rollout = build_rollout(with_session_cache(self.model, make), self.script, self.plan, seeds=(self.seed,))
        clock = time.process_time if self.model.device == "cpu" else time.perf_counter
        start = clock()
        frames = [event.frames[0] for event in rollout.run() if isinstance(event, Frames)]
        return torch.cat(frames), clock() - start


@dataclass(frozen=True)
class Row:
    """Result for one threshold. computed: share of the model calls. speedup: times as fast. psnr: against the exact run."""

    threshold: float
    computed: float
    speedup: float
    psnr: float


class CalibrationRecorder:
    """A cache that skips no call and records how much the embedding and the residual changed from step to step."""

    def __init__(self, pairs: list[tuple[float, float]], projected: bool = True):
        self.pairs, self.calibration = pairs, Calibration((), projected)

    def begin(self, window: Window) -> None:
        """Forget the previous window."""
        self.embedding: dict[int, Tensor] = {}
        self.residuals: dict[int, Tensor] = {}
        self.layout: Hashable = None
        self.now: dict[int, Tensor] = {}

    def can_skip(self, row: int, moving: Sequence[int], embedding_FD: Tensor, layout: Hashable) -> bool:
        """Note the embeddings; no call is skipped."""
        if layout != self.layout:
            self.embedding, self.residuals, self.layout = {}, {}, layout
        self.now = dict(zip(moving, embedding_FD))
        return False

    def residual(self, columns: Sequence[int]) -> Tensor:
        """Never called, since no call is skipped."""
        raise NotImplementedError

    def store(self, columns: Sequence[int], residual_BFSD: Tensor) -> None:
        """Record the change of each column's embedding and residual (B, F, S, D) since its last call."""
        for column, residual in zip(columns, residual_BFSD.unbind(1)):
            if column not in self.now:
                continue
            if column in self.residuals:
                change = relative(self.embedding[column], self.now[column])
                self.pairs.append((change, relative(self.residuals[column], residual)))
            self.embedding[column], self.residuals[column] = self.now[column], residual


def relative(before: Tensor, now: Tensor) -> float:
    """Return the mean absolute change relative to the mean absolute value before."""
    return ((now.double() - before.double()).abs().mean() / before.double().abs().mean().clamp_min(1e-12)).item()


def fitted(pairs: Sequence[tuple[float, float]], steps: int, degree: int = 4) -> Calibration:
    """Fit the polynomial from embedding change to residual change by least squares.

    The first tenth of the steps and the last step are always computed. StepCacheError for fewer than two pairs.
    """
    if len(pairs) < 2:
        raise StepCacheError("too few model calls to fit a calibration: use more --steps or more --seconds")
    embedding, residual = (np.array(column) for column in zip(*pairs))
    degree = min(degree, len(np.unique(embedding)) - 1)
    scale = embedding.max() or 1.0  # powers of small numbers are badly conditioned
    coefficients = np.polyfit(embedding / scale, residual, degree)
    powers = scale ** np.arange(degree, -1, -1)
    return Calibration(tuple((coefficients / powers).tolist()), projected=True, first=max(1, steps // 10), last=1)


def calibrated(case: Case, steps: int) -> Calibration:
    """Fit a calibration to a run without caching."""
    pairs: list[tuple[float, float]] = []
    case.run(lambda: CalibrationRecorder(pairs))
    return fitted(pairs, steps)


def measured(case: Case, calibration: Calibration, thresholds: Sequence[float]) -> list[Row]:
    """Measure every threshold against the run without caching."""
    rows, (exact, seconds) = [], case.run(lambda: None)
    for threshold in thresholds:
        caches: list[StepCache] = []

        def make(threshold: float = threshold, caches: list[StepCache] = caches) -> StepCache:
            caches.append(StepCache(calibration, threshold))
            return caches[-1]

        frames, took = case.run(make)
        computed, skipped = sum(cache.computed for cache in caches), sum(cache.skipped for cache in caches)
        rows.append(Row(threshold, computed / (computed + skipped), seconds / took, decibels(exact, frames)))
    return rows


def decibels(one: Tensor, two: Tensor) -> float:
    """Return the PSNR of uint8 frames in dB; infinity if they are equal."""
    error = (one.double() - two.double()).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def table(name: str, rows: Sequence[Row]) -> Table:
    """Format the rows as a table."""
    result = Table(title=f"step caching of {name} against the run without it")
    for column in ("threshold", "calls computed", "speedup", "PSNR"):
        result.add_column(column, justify="right")
    for row in rows:
        result.add_row(f"{row.threshold:g}", f"{row.computed:.0%}", f"{row.speedup:.2f}", f"{row.psnr:.1f} dB")
    return result


def main(words: Sequence[str] | None = None) -> None:
    """Fit or read a calibration and print its speed and error for each threshold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("model", help="name, folder, file or hub id of the model")
    parser.add_argument("--prompt", default="a red ball drifts to the right over the sea")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--strategy", help="strategy (default: that of the model)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: those of the model)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--thresholds", default="0.05,0.1,0.2,0.4")
    parser.add_argument("--calibration", type=Path, help="measure this file instead of fitting a calibration")
    parser.add_argument("-o", "--output", type=Path, help="write the calibration to this file")
    args = parser.parse_args(words)
    try:
        model = load(args.model)
        if not caching_sessions(model.session()):
            raise StepCacheError(f"{model.name} has no step caching: use a model with a block transformer")
        name = args.strategy or model.defaults.strategy
        own = default_options_for(
            name, model.defaults.strategy, model.defaults.strategy_options, model.defaults.sampling_options
        )
        strategy = make_plan(name, **{**own, **({"steps": args.steps} if args.steps else {})})
        case = Case(model, strategy, Script.of(args.prompt, model.fps, args.seconds), args.seed)
        calibration = calibrated(case, len(sigmas_of(strategy.schedule)) - 1)  # type: ignore[attr-defined]
        calibration = Calibration.read(args.calibration) if args.calibration else calibration
        rows = measured(case, calibration, [float(word) for word in args.thresholds.split(",")])
    except ValueError as error:
        Console(stderr=True).print(f"[red]{error}[/red]", highlight=False)
        sys.exit(2)
    if args.output:
        calibration.write(args.output)
    Console().print(table(model.name, rows))


if __name__ == "__main__":
    protect_streams()
    main()
