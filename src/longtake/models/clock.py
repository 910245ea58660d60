"""The clock world: every output frame shows its own number, so a rollout is right if and only if it counts 0, 1, 2, ...

The network knows the answer; what is tested (and demonstrated, in milliseconds) is everything around it. The number is
drawn as 16 black and white cells, so that it survives uint8 and video compression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from longtake.geometry import first_frame
from longtake.models.base import Cond, Model, Past
from longtake.models.mute import Mute
from longtake.noise import per_frame
from longtake.plan import Limits, Window

SIZE, CELL, BITS = 16, 4, 16


def clock(stride: int = 4, view: int = 25, context: Literal["in place", "beside"] = "in place") -> Model:
    """A clock of `stride` output frames per latent that sees `view` latents."""
    return Model(
        name="clock",
        family="clock",
        limits=Limits(view=view, context=context),
        session=lambda: ClockSession(stride),
        codec=ClockCodec(stride),
        text=Mute(),
        fps=24.0,
        size=(SIZE, SIZE),
        digest=f"clock-{stride}-{view}-{context}",
        sampling={"steps": 4},
        options={"steps": 4},
    )


class ClockSession:
    """Knows which number each latent should show, given any clean frame in view."""

    def __init__(self, stride: int):
        self.stride, self.base = stride, torch.zeros(())
        self.frames: Sequence[int] = ()

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`. The newest known frame tells what the time is; guides are no part of it."""
        self.frames, self.known = window.frames, past.known
        self.base = torch.zeros(())
        shown = [f for f, role in zip(window.frames, window.role) if role != "guide" and f in past.known]
        if shown:
            newest = max(shown)
            self.base = past.known[newest][:, -1:] - self._numbers(newest)[-1]

    def _numbers(self, latent: int) -> Tensor:
        """Numbers (stride,) shown by a latent of a take that starts at 0; a first latent shows its one number throughout."""
        if latent == 0:
            return torch.zeros(self.stride)
        return first_frame(latent, self.stride) + torch.arange(self.stride, dtype=torch.float32)

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See `Session`."""
        want = torch.stack([self._numbers(f) for f in self.frames], 1)[None, :, :, None, None]
        base = self.base[:, :, None] if self.base.ndim else self.base
        return (x - want - base) / per_frame(level.clamp_min(1e-9), x)

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""

    def state(self) -> dict[str, Tensor]:
        """See `Session`: nothing is remembered."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""


class ClockCodec:
    """A latent (stride, 1, 1) holds the numbers of its frames; the first latent of a take has one frame."""

    scale, reach = SIZE, 1

    def __init__(self, stride: int):
        self.stride = self.channels = stride

    def encode(self, frames: Tensor) -> Tensor:
        """See `Codec`."""
        numbers = _read(frames)
        first = numbers[:, :1].expand(-1, self.stride)[:, :, None]
        later = numbers[:, 1:].unflatten(1, (-1, self.stride)).transpose(1, 2)
        return torch.cat([first, later], 2)[..., None, None]

    def decoder(self) -> ClockDecoder:
        """See `Codec`."""
        return ClockDecoder()


class ClockDecoder:
    """Draws the numbers of latents."""

    def __init__(self):
        self.seen = count()

    def push(self, latents: Tensor) -> Tensor:
        """See `Decoder`."""
        parts = [latents[:, -1:, i] if next(self.seen) == 0 else latents[:, :, i] for i in range(latents.shape[2])]
        return _draw(torch.cat(parts, 1)[..., 0, 0])

    def flush(self) -> Tensor:
        """See `Decoder`."""
        return torch.zeros(1, 3, 0, SIZE, SIZE)


def _draw(numbers: Tensor) -> Tensor:
    """(B, T) -> (B 3 T 16 16)."""
    whole = numbers.round().long().clamp(0, 2**BITS - 1)
    bits = (whole[..., None] >> torch.arange(BITS)) & 1
    cells = (bits * 2 - 1).float().unflatten(-1, (SIZE // CELL, SIZE // CELL))
    picture = cells.repeat_interleave(CELL, -1).repeat_interleave(CELL, -2)
    return picture[:, None].expand(-1, 3, -1, -1, -1)


def _read(frames: Tensor) -> Tensor:
    """(B 3 T 16 16) -> (B, T)."""
    cells = frames.float().mean(1).unflatten(-1, (-1, CELL)).mean(-1).unflatten(-2, (-1, CELL)).mean(-2)
    bits = (cells.flatten(-2) > 0).long()
    return (bits << torch.arange(BITS)).sum(-1).float()
