"""The interface between a video recipe and its clips, wherever they come from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from longtake.train.interfaces import Captions

Encode = Callable[[Tensor], Tensor]  # frames (B 3 T H W) in [-1, 1] -> normalised latents (B C F h w)


@dataclass(frozen=True)
class BatchSpec:
    """The clips from which a step draws its windows, which share a batch.

    frames: latent frames of a window. numbers: of the clips. single_caption: those of them with one caption throughout.
    cost: of a window, in latent frames of the usual size.
    """

    frames: int
    numbers: Sequence[int]
    single_caption: Sequence[int]
    cost: int


class ClipDataset(Protocol):
    """Numbered clips, as latents with captions."""

    control_kind: str  # the kind of control signal of the clips, "" if they have none

    @property
    def channels(self) -> int:
        """Channels of a latent."""

    def __len__(self) -> int: ...

    def batch_spec(self, length: Callable[[torch.Generator], int], generator: torch.Generator) -> BatchSpec:
        """Draw the clips of a step. length: draws a length in latent frames, for clips without fixed lengths."""

    @property
    def control_width(self) -> int:
        """Values of the control signal per frame, 0 if there is none."""

    def control_signal(self, number: int) -> Tensor:
        """Return the control signal of the frames of a clip (T, D)."""

    def length(self, number: int) -> int:
        """Return the number of latent frames of a clip."""

    def window(self, number: int, start: int, frames: int) -> tuple[Tensor, Tensor]:
        """Return latents (C, F, h, w) and sprite cover (F, h, w) of `frames` latent frames from `start` on, in float32."""

    def caption_change(self, number: int) -> int | None:
        """Return the first latent frame with another caption than the clip's first one, if there is one."""

    def caption(self, number: int, latent: int, rng: random.Random) -> str:
        """Return the caption of a latent frame of a clip."""

    def captions(self, number: int, start: int, frames: int, rng: random.Random) -> Captions:
        """Return the captions of a window, each with the latent frame of the window from which on it holds."""

    def example(self) -> int:
        """Return the number of a clip to show as an example: one with one caption throughout, if there is one."""

    def first_frame(self, number: int) -> Tensor:
        """Return the first frame (3, H, W) of a clip, in [-1, 1]."""

    def facts(self) -> dict[str, Any]:
        """Return facts, JSON-serialisable, that must be equal for a run to resume."""
