"""Small videos to record, and what a finished reel must look like."""

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

from longtake import media
from longtake.engine import Rollout
from longtake.models import load
from longtake.models.base import Model
from longtake.models.clock import _read
from longtake.plans import plan
from longtake.reel import Manifest, describe
from longtake.script import Script


@dataclass(frozen=True)
class Video:
    """A video that can be made again and again."""

    model: Model
    frames: int | None = 127
    name: str = "sliding"
    options: dict[str, Any] = field(default_factory=lambda: dict(steps=2, window=33, overlap=9))
    segment: int = 24
    seed: int = 0

    def rollout(self) -> Rollout:
        """A new one."""
        seconds = None if self.frames is None else self.frames / 24
        script = Script.of("a red ball", 24, seconds, endless=self.frames is None)
        return Rollout(self.model, script, plan(self.name, **self.options), seeds=(self.seed,))

    def manifest(self, **settings: Any) -> Manifest:
        """What it is."""
        about = {"model": self.model.name, "plan": self.name, **self.options, **settings}
        return describe(
            about,
            seed=self.seed,
            weights=self.model.digest,
            fps=24,
            size=self.model.size,
            frames=self.frames,
            segment=self.segment,
        )


def clock(**changes: Any) -> Video:
    """A clock that counts to 126."""
    return Video(load("clock"), **changes)


def sha(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counted(path: Path) -> list[int]:
    """The numbers that a recorded clock shows; its frames must stand exactly at n / 24 s."""
    times, pictures = zip(*media.read(path))
    assert list(times) == [Fraction(n, 24) for n in range(len(times))]
    video = torch.stack(pictures).permute(3, 0, 1, 2)[None]
    return _read(video.float() / 127.5 - 1)[0].int().tolist()


def content(folder: Path) -> dict[str, str]:
    """Everything that must be the same for every way in which a reel came to be, as hashes."""
    kept = [*(folder / "media").iterdir(), folder / "video.mp4", folder / "index.m3u8", folder / "sheet.png"]
    return {path.name: sha(path) for path in kept}


def forked(action: Callable[[], Any]) -> int:
    """Run an action in a copy of this process; returns its process number. It exits with 0, or 1 if it raised.

    On one torch thread: OpenMP's other threads are not copied, and a copy that waits for them waits for ever.
    """
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads: torch has been told to use one
        pid = os.fork()
    if pid:
        return pid
    try:
        action()
        os._exit(0)
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)


def waited(pid: int) -> int:
    """The exit code of a child, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int) -> bool:
    """Kill a child the hard way; whether it was still alive."""
    os.kill(pid, signal.SIGKILL)
    return waited(pid) == -signal.SIGKILL
