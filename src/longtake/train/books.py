"""What is written about a training run: log.jsonl, TensorBoard events if asked for, and lines for who watches."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from longtake.train.checkpoint import replaced
from longtake.train.config import ConfigError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"


@dataclass(frozen=True)
class Report:
    """What a step says. loss: before it, the mean over the batches of all ranks. norm: of the gradient before clipping.

    bad: names the batches whose loss or gradient was no number (the step was then skipped).
    """

    loss: float
    norm: float
    lr: float
    bad: str = ""


@dataclass
class Books:
    """The books of a run. losses, norms: since the last line; they are part of a checkpoint, so that lines go on."""

    out: Path
    report: Callable[[str], None]
    steps: int
    board: SummaryWriter | None = None
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    marked: float = field(default_factory=time.monotonic)
    counted: int = 0  # steps since the last line, which was written at `lined` seconds
    lined: float = 0.0

    def saw(self, told: Report) -> None:
        """Note a step."""
        self.counted += 1
        if not told.bad:
            self.losses.append(told.loss)
            self.norms.append(told.norm)

    def skipped(self, step: int, told: Report) -> None:
        """Write that a step was skipped, and why."""
        self._write({"step": step, "skipped": told.bad})
        self.report(f"step {step} skipped: {told.bad}")

    def line(self, step: int, lr: float, first: bool = True) -> None:
        """Write the means since the last line; nothing if every step since was skipped. first: this rank writes."""
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
        self._write(line)
        self._draw(step, {key: line[key] for key in ("loss", "lr", "norm", "steps_per_second", "memory_mib")})
        self.report(
            f"step {step}/{self.steps}  loss {line['loss']:.4f}  norm {line['norm']:.2f}  lr {lr:.1e}  "
            f"{rate:.2f} steps/s  {self.seconds:.0f} s"
        )

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Write the scores of a check, and show its contact sheet."""
        self._write({"step": step, **scores})
        self._draw(step, {f"check/{name}": value for name, value in scores.items()})
        if self.board and (sheet := self.out / f"sheet-{step:06d}.png").exists():
            self.board.add_image("sheet", _pixels(sheet), step, dataformats="HWC")
        self.report(f"step {step}  " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold for the lines to go on."""
        self._tick()
        return {"losses": self.losses, "norms": self.norms, "seconds": self.seconds}

    def load(self, state: Mapping[str, Any], step: int, first: bool = True) -> None:
        """Undo `state`, and forget lines of later steps, which will be made again. first: this rank writes."""
        self.losses, self.norms = list(state.get("losses", [])), list(state.get("norms", []))
        self.seconds, self.marked = state.get("seconds", 0.0), time.monotonic()
        self.counted, self.lined = 0, self.seconds
        if first:
            cut_log(self.out / LOG, step)

    def close(self) -> None:
        """Put the events on the disk."""
        if self.board:
            self.board.close()

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds, self.marked = self.seconds + now - self.marked, now

    def _write(self, line: Mapping[str, Any]) -> None:
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _draw(self, step: int, curves: Mapping[str, Any]) -> None:
        if self.board:
            for name, value in curves.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()


def open_board(out: Path, step: int) -> SummaryWriter:
    """TensorBoard events in out/tensorboard, from `step` on. ConfigError if the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError('[loop] tensorboard = true needs the package: pip install "longtake[train]"') from error
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)


def cut_log(path: Path, step: int) -> None:
    """Drop lines of steps after `step`, and a torn last one."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue
    with replaced(path) as draft:
        draft.write_text("".join(kept))


def peak_memory() -> float:
    """The most memory this process has held so far, in MiB: of the GPU if there is one in use, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _pixels(path: Path) -> Any:
    """A picture (H, W, 3) uint8."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))
