"""What a rollout says while it makes a video."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.live import Switched
from longtake.outlet import Frames
from longtake.plan import Window


@dataclass(frozen=True)
class Began:
    """Window `index` begins. frames: output frames shown before it."""

    index: int
    window: Window
    frames: int


@dataclass(frozen=True)
class Called:
    """Model call `call` of `calls` of window `index` is done."""

    index: int
    call: int
    calls: int


@dataclass(frozen=True)
class Ended:
    """Window `index` is done and `frames` output frames have been shown in all: the only safe points for a snapshot."""

    index: int
    frames: int


Event = Began | Called | Frames | Ended | Switched
