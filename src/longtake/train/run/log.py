"""The log of a training run: log.jsonl, progress lines, and TensorBoard events if the config asks for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from longtake.core import platform
from longtake.core.errors import ConfigError
from longtake.core.units import duration
from longtake.train.run.checkpoint import replaced

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
SLOW = 3.0  # seconds of a step, from which on the first one is reported at once


@dataclass(frozen=True)
class StepResult:
    """The result of a step. loss: before the step, the mean over the batches of all ranks. norm: of the gradient before
    clipping. bad: describes the batches with a non-finite loss or gradient; the step was then skipped.
    """

    loss: float
    norm: float
    lr: float
    bad: str = ""


@dataclass
class TrainLog:
    """The log of a run. losses, norms: since the last line; a checkpoint holds them, so that a resumed log is equal.

    counted: steps since the last line, which was written at `lined` seconds. made: steps of this process.
    """

    out: Path
    report: Callable[[str], None]
    steps: int
    board: SummaryWriter | None = None
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    marked: float = field(default_factory=time.monotonic)
    counted: int = 0
    lined: float = 0.0
    made: int = 0

    def record(self, result: StepResult) -> None:
        """Add the result of a step to the means of the next line."""
        self.counted += 1
        self._say_first(result)
        if not result.bad:
            self.losses.append(result.loss)
            self.norms.append(result.norm)

    def record_skip(self, step: int, result: StepResult) -> None:
        """Write that a step was skipped, and why."""
        self._append({"step": step, "skipped": result.bad})
        self.report(f"step {step} skipped: {result.bad}")

    def write(self, step: int, lr: float, first: bool = True) -> None:
        """Write a line of means since the last one, unless every step since was skipped. first: this rank writes."""
        self._tick()
        rate = self.counted / max(self.seconds - self.lined, 1e-9)
        self.counted, self.lined = 0, self.seconds
        losses, norms, self.losses, self.norms = self.losses, self.norms, [], []
        if not losses or not first:
            return
        line = {
            "step": step,
            "loss": _mean(losses),
            "lr": lr,
            "norm": _mean(norms),
            "seconds": round(self.seconds, 1),
            "steps_per_second": round(rate, 4),
            "memory_mib": round(peak_memory(), 1),
        }
        self._append(line)
        self._plot(step, {key: line[key] for key in ("loss", "lr", "norm", "steps_per_second", "memory_mib")})
        self.report(
            f"step {step}/{self.steps}  loss {line['loss']:.4f}  norm {line['norm']:.2f}  lr {lr:.1e}  "
            f"{rate:.2f} steps/s  {line['memory_mib']:,.0f} MiB  {self._left(step, rate)}"
        )

    def write_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Write the scores of an evaluation, and its contact sheet to TensorBoard."""
        self._append({"step": step, **scores})
        self._plot(step, {f"eval/{name}": value for name, value in scores.items()})
        if self.board and (sheet := self.out / f"sheet-{step:06d}.png").exists():
            self.board.add_image("sheet", _pixels(sheet), step, dataformats="HWC")
        self.report(f"step {step}  " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds so that a resumed run continues the log."""
        self._tick()
        return {"losses": self.losses, "norms": self.norms, "seconds": self.seconds}

    def load(self, state: Mapping[str, Any], step: int, first: bool = True) -> None:
        """Restore a state, and drop lines of later steps, which will be repeated. first: this rank writes."""
        self.losses, self.norms = list(state.get("losses", [])), list(state.get("norms", []))
        self.seconds, self.marked = state.get("seconds", 0.0), time.monotonic()
        self.counted, self.lined = 0, self.seconds
        if first:
            cut_log(self.out / LOG, step)

    def _say_first(self, result: StepResult) -> None:
        """Report the first step of this process, where the first line is far."""
        self.made += 1
        if self.made == 1:
            took = time.monotonic() - self.marked
            if took > SLOW:
                self.report(f"the first step took {duration(took)}, its loss is {result.loss:.4f}; progress follows")

    def _left(self, step: int, rate: float) -> str:
        """Return how long the rest of the run takes at a rate, or how long all of it took."""
        if step >= self.steps:
            return f"{duration(self.seconds)} in all"
        return f"{duration((self.steps - step) / max(rate, 1e-9))} left"

    def close(self) -> None:
        """Flush the TensorBoard events."""
        if self.board:
            self.board.close()

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds, self.marked = self.seconds + now - self.marked, now

    def _append(self, line: Mapping[str, Any]) -> None:
        with (self.out / LOG).open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line) + "\n")

    def _plot(self, step: int, curves: Mapping[str, Any]) -> None:
        if self.board:
            for name, value in curves.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()


def open_board(out: Path, step: int) -> SummaryWriter:
    """Open TensorBoard events in out/tensorboard, from `step` on. ConfigError if the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError('[loop] tensorboard = true needs the package: pip install "longtake[train]"') from error
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)


def cut_log(path: Path, step: int) -> None:
    """Drop lines of steps after `step`, and an incomplete last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue
    with replaced(path) as draft:
        draft.write_text("".join(kept), encoding="utf-8", newline="\n")


def peak_memory() -> float:
    """Return the peak memory of this process so far, in MiB: of the GPU if one is in use, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    return platform.peak_memory() / 2**20


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _pixels(path: Path) -> Any:
    """Read an image (H, W, 3) uint8."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))
