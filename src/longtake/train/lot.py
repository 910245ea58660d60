"""What a recipe asks of the clips that it learns from, wherever they come from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from longtake.train.sample import Told


@dataclass(frozen=True)
class Lot:
    """What a step draws from: windows of `frames` latents of the clips with these numbers, which share a batch.

    steady: clips whose caption holds throughout. cost: of a window, in latents of the usual size.
    """

    frames: int
    numbers: Sequence[int]
    steady: Sequence[int]
    cost: int


class Clips(Protocol):
    """Clips by number, as latents with captions."""

    drive: str  # what drives them from outside, if anything

    @property
    def channels(self) -> int:
        """Of a latent."""

    def __len__(self) -> int: ...

    def lot(self, length: Callable[[torch.Generator], int], rng: torch.Generator) -> Lot:
        """What a step draws from; length: draws a length, for clips that know none of their own."""

    @property
    def driven(self) -> int:
        """Numbers that drive a frame, 0 if nothing drives them."""

    def driving(self, number: int) -> Tensor:
        """What drives the frames of a clip (T, D)."""

    def longest(self, number: int) -> int:
        """Latents of a clip."""

    def window(self, number: int, start: int, frames: int) -> tuple[Tensor, Tensor]:
        """Latents (C, F, h, w) and sprite (F, h, w) of `frames` latents from `start` on, in float32."""

    def change(self, number: int) -> int | None:
        """The latent from which on another caption holds, if there is one."""

    def caption(self, number: int, latent: int, chance: random.Random) -> str:
        """What a clip shows at a latent."""

    def told(self, number: int, start: int, frames: int, chance: random.Random) -> Told:
        """Captions of a window, and the latent of it from which on each holds."""

    def facts(self) -> dict[str, Any]:
        """What must be the same for a run to go on, json-able."""
