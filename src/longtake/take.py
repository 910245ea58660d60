"""One take: a run of latents in one coordinate system, with its decoder and session, and the noise that belongs to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from longtake.geometry import first_frame, is_whole, nearest_whole
from longtake.models.base import Codec, Decoder, Session
from longtake.noise import Noise, Spot
from longtake.plan import PlanError, Window
from longtake.tape import Draw, Tape

DECODE = 8  # latents per push of the decoder: enough to be fast, few enough to stay small


@dataclass
class Take:
    """A run of latents in one coordinate system. first: the output frame of the video at which it starts.

    stride: frames for a latent. given: the frames (B 3 T H W) with which it began, for a model that is told of them as
    pixels. replay: the last latents decoded, enough to restore the decoder.
    """

    number: int
    first: int
    stride: int
    decoder: Decoder
    session: Session
    tape: Tape = field(default_factory=Tape)
    replay: deque[Tensor] = field(default_factory=deque)
    given: Tensor | None = None

    def frame(self, latent: int) -> int:
        """First output frame of the video of a latent frame."""
        return self.first + first_frame(latent, self.stride)

    def decode(self, latents: Sequence[Tensor]) -> Iterator[Tensor]:
        """Latents (B C h w) in order -> output frames (B 3 T H W), a few latents at a time."""
        for i in range(0, len(latents), DECODE):
            self.replay.extend(latents[i : i + DECODE])
            with torch.inference_mode():
                video = self.decoder.push(torch.stack(list(latents[i : i + DECODE]), 2))
            yield video

    def ended(self, latents: Sequence[Tensor]) -> Iterator[Tensor]:
        """The same for the last latents of the take, and what the decoder held back."""
        yield from self.decode(latents)
        with torch.inference_mode():
            rest = self.decoder.flush()
        yield rest


@dataclass(frozen=True)
class Grain:
    """The noise of a rollout, of latents of a shape (C, h, w), on a device."""

    noise: Noise
    shape: tuple[int, int, int]
    device: str

    def smaller(self, scale: int) -> Grain:
        """The same for latents of 1/scale the height and width."""
        channels, height, width = self.shape
        return Grain(self.noise, (channels, height // scale, width // scale), self.device)

    def of(self, take: Take, window: Window) -> Draw:
        """What draws the noise of a window: (purpose, latent frames, call) -> (B C F h w)."""

        def draw(purpose: Any, frames: list[int], call: int) -> Tensor:
            at = call if purpose == "context" else 0
            return self._drawn([Spot(purpose, take.frame(f), take.number, f, window.draw, at) for f in frames])

        return draw

    def of_step(self, take: Take, window: Window, level: Tensor, remade: Sequence[int]) -> Tensor:
        """Noise (B C F h w) of a step to these levels (F,): of each frame its own, and another where it is made again."""
        spots = [
            Spot("step", take.frame(f), take.number, f, window.draw + (f in remade), round(1e6 * to))
            for f, to in zip(window.frames, level.tolist())
        ]
        return self._drawn(spots)

    def _drawn(self, spots: list[Spot]) -> Tensor:
        return self.noise(spots, self.shape).to(self.device)


def encoded(codec: Codec, frames_B3THW: Tensor, device: str) -> list[Tensor]:
    """Frames as latents (B C h w). PlanError if they do not fill whole latents."""
    stride, count = codec.stride, frames_B3THW.shape[2]
    if not is_whole(count, stride):
        low, high = nearest_whole(count, stride)
        raise PlanError(f"{count} given frames do not fill whole latent frames of {stride}: give {low} or {high}")
    with torch.inference_mode():
        return list(codec.encode(frames_B3THW.to(device)).unbind(2))
