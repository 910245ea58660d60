"""The clock toy model: every output frame shows its own number, so a rollout is right if and only if it counts 0, 1, 2, ...

The network computes the exact answer; everything around it is tested (and demonstrated, in milliseconds). The number is drawn
as 16 black and white cells, so that it survives uint8 and video compression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from longtake.core.geometry import first_frame
from longtake.core.noise import per_frame
from longtake.models.interfaces import Conditioning, ContextFrames
from longtake.models.model import Model, ModelInfo, SamplingDefaults, VideoFormat
from longtake.models.toy.null_text_encoder import NullTextEncoder
from longtake.planning.limits import Limits
from longtake.planning.window import Window

SIZE, CELL, BITS = 16, 4, 16


def clock(
    temporal_compression: int = 4, max_latent_frames: int = 25, conditioning: Literal["inpaint", "concat"] = "inpaint"
) -> Model:
    """A clock of `temporal_compression` output frames per latent that sees `max_latent_frames` latents."""
    return Model(
        info=ModelInfo("clock", "clock", digest=f"clock-{temporal_compression}-{max_latent_frames}-{conditioning}"),
        format=VideoFormat(fps=24.0, size=(SIZE, SIZE)),
        limits=Limits(max_latent_frames=max_latent_frames, conditioning=conditioning),
        session=lambda: ClockSession(temporal_compression),
        vae=ClockVAE(temporal_compression),
        text_encoder=NullTextEncoder(),
        defaults=SamplingDefaults(strategy_options={"steps": 4}, sampling_options={"steps": 4}),
    )


class ClockSession:
    """A `Session` that computes the number of each latent from any clean frame in view."""

    def __init__(self, temporal_compression: int):
        self.temporal_compression, self.base = temporal_compression, torch.zeros(())
        self.frames: Sequence[int] = ()

    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Take the newest context frame as the time; keyframes do not count."""
        self.frames, self.known = window.frames, context.latents
        self.base = torch.zeros(())
        shown = [f for f, role in zip(window.frames, window.role) if role != "keyframe" and f in context.latents]
        if shown:
            newest = max(shown)
            self.base = context.latents[newest][:, -1:] - self._numbers(newest)[-1]

    def _numbers(self, latent: int) -> Tensor:
        """Return the numbers (temporal_compression,) of a latent of a clip that starts at 0; the first repeats its only one."""
        if latent == 0:
            return torch.zeros(self.temporal_compression)
        return first_frame(latent, self.temporal_compression) + torch.arange(
            self.temporal_compression, dtype=torch.float32
        )

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the velocity towards the number of each frame."""
        want = torch.stack([self._numbers(f) for f in self.frames], 1)[None, :, :, None, None]
        base = self.base[:, :, None] if self.base.ndim else self.base
        return (x - want - base) / per_frame(sigma.clamp_min(1e-9), x)

    def finish(self, window: Window, x: Tensor) -> None:
        """Do nothing."""

    def state(self) -> dict[str, Tensor]:
        """Return nothing: no state is kept."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore nothing."""


class ClockVAE:
    """A `VAE` whose latents (temporal_compression, 1, 1) are the numbers of their frames; the first latent has one frame."""

    spatial_compression, replay_latents = SIZE, 1

    def __init__(self, temporal_compression: int):
        self.temporal_compression = self.channels = temporal_compression

    def encode(self, frames: Tensor) -> Tensor:
        """Read the numbers of frames into latents."""
        numbers = read_numbers(frames)
        first = numbers[:, :1].expand(-1, self.temporal_compression)[:, :, None]
        later = numbers[:, 1:].unflatten(1, (-1, self.temporal_compression)).transpose(1, 2)
        return torch.cat([first, later], 2)[..., None, None]

    def decoder(self) -> ClockDecoder:
        """Return a new streaming decoder."""
        return ClockDecoder()


class ClockDecoder:
    """A `Decoder` that draws the numbers of latents."""

    def __init__(self):
        self.decoded = count()

    def push(self, latents: Tensor) -> Tensor:
        """Draw the frames of latents."""
        parts = [latents[:, -1:, i] if next(self.decoded) == 0 else latents[:, :, i] for i in range(latents.shape[2])]
        return draw_numbers(torch.cat(parts, 1)[..., 0, 0])

    def flush(self) -> Tensor:
        """Return no frames: none is ever withheld."""
        return torch.zeros(1, 3, 0, SIZE, SIZE)


def draw_numbers(numbers: Tensor) -> Tensor:
    """Draw numbers (B, T) -> frames (B, 3, T, 16, 16)."""
    whole = numbers.round().long().clamp(0, 2**BITS - 1)
    bits = (whole[..., None] >> torch.arange(BITS)) & 1
    cells = (bits * 2 - 1).float().unflatten(-1, (SIZE // CELL, SIZE // CELL))
    picture = cells.repeat_interleave(CELL, -1).repeat_interleave(CELL, -2)
    return picture[:, None].expand(-1, 3, -1, -1, -1)


def read_numbers(frames: Tensor) -> Tensor:
    """Read the numbers (B, T) from frames (B, 3, T, 16, 16)."""
    cells = frames.float().mean(1).unflatten(-1, (-1, CELL)).mean(-1).unflatten(-2, (-1, CELL)).mean(-2)
    bits = (cells.flatten(-2) > 0).long()
    return (bits << torch.arange(BITS)).sum(-1).float()
