"""Small videos to record, and helpers that compare finished runs and fork processes."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from longtake.engine.build import build_rollout
from longtake.engine.rollout import Rollout
from longtake.media.video_reader import timed_frames
from longtake.models import load
from longtake.models.model import Model
from longtake.models.toy.clock import read_numbers
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from longtake.runs import Manifest, describe


@dataclass(frozen=True)
class Video:
    """A video that can be generated again and again."""

    model: Model
    frames: int | None = 127
    name: str = "sliding"
    options: dict[str, Any] = field(default_factory=lambda: dict(steps=2, window=33, overlap=9))
    segment: int = 24
    seed: int = 0

    def rollout(self) -> Rollout:
        """Return a new rollout of the video."""
        seconds = None if self.frames is None else self.frames / 24
        script = Script.of("a red ball", 24, seconds, endless=self.frames is None)
        return build_rollout(self.model, script, make_plan(self.name, **self.options), seeds=(self.seed,))

    def manifest(self, **settings: Any) -> Manifest:
        """Return the manifest of its run."""
        sampling = {"seed": self.seed}
        about = {"model": self.model.name, "plan": self.name, "sampling": sampling, **self.options, **settings}
        return describe(
            about,
            weights=self.model.info.digest,
            fps=24,
            size=self.model.size,
            frames=self.frames,
            segment=self.segment,
        )


def clock(**changes: Any) -> Video:
    """Return a video of the toy clock model, whose frames show their numbers 0 to 126."""
    return Video(load("clock"), **changes)


def sha(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counted(path: Path) -> list[int]:
    """Read the frame numbers that a recorded clock shows; frame n must be shown at exactly n / 24 s."""
    times, pictures = zip(*timed_frames(path))
    assert list(times) == [Fraction(n, 24) for n in range(len(times))]
    video = torch.stack(pictures).permute(3, 0, 1, 2)[None]
    return read_numbers(video.float() / 127.5 - 1)[0].int().tolist()


def content(folder: Path) -> dict[str, str]:
    """Return the hashes of all files that must be equal however often the run was stopped."""
    kept = [*(folder / "media").iterdir(), folder / "video.mp4", folder / "index.m3u8", folder / "sheet.png"]
    return {path.name: sha(path) for path in kept}


def forked(action: Callable[[], Any]) -> int:
    """Run an action in a fork of this process and return its process id. The fork exits with 0, or with 1 if it raised.

    torch uses one thread: a fork has none of OpenMP's other threads, and would wait for them for ever.
    """
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads: torch uses one
        pid = os.fork()
    if pid:
        return pid
    os.environ["OMP_NUM_THREADS"] = "1"  # so that the command line does not measure whether more threads are faster
    try:
        action()
        os._exit(0)
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)


def waited(pid: int) -> int:
    """Return the exit code of a child process, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int) -> bool:
    """Kill a child process with SIGKILL; return whether it was still alive."""
    os.kill(pid, signal.SIGKILL)
    return waited(pid) == -signal.SIGKILL
