"""The gauss world: frames of a stationary AR(1) process, whose velocity is known in closed form at any mix of levels.

A rollout that treats levels, noise and hand-overs rightly keeps the variance 1 and the correlation of neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from longtake.models.base import Cond, Model, Past
from longtake.models.mute import Mute
from longtake.plan import Limits, Window

AMPLITUDE = 0.15  # of a standard deviation, in output pixels of [-1, 1]


def gauss(
    correlation: float = 0.9, view: int = 25, size: int = 16, context: Literal["in place", "beside"] = "in place"
) -> Model:
    """Independent AR(1) pixels of the given lag-1 correlation; one output frame per latent."""
    return Model(
        name="gauss",
        family="gauss",
        limits=Limits(view=view, context=context),
        session=lambda: GaussSession(correlation),
        codec=GaussCodec(),
        text=Mute(),
        fps=24.0,
        size=(size, size),
        digest=f"gauss-{correlation}-{view}-{context}",
        sampling={"steps": 40},
        options={"steps": 40},
    )


class GaussSession:
    """E[noise - video | x] for Gaussian frames: linear in x."""

    def __init__(self, correlation: float):
        self.correlation = correlation

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        self.window, self.known = window, past.known

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See `Session`. Frames told beside x count as seen without noise."""
        frames = torch.tensor(self._places(), dtype=torch.float64)
        beside = torch.tensor([role == "beside" for role in self.window.role])
        seen = torch.where(beside, 0.0, level)
        x_seen = x.clone()
        for i in beside.nonzero()[:, 0].tolist():
            x_seen[:, :, i] = self.known[self.window.frames[i]]
        cov = self.correlation ** (frames[:, None] - frames[None]).abs()
        keep, add = torch.diag(1 - seen), torch.diag(seen)
        gain = cov @ keep @ torch.linalg.inv(keep @ cov @ keep + add @ add + 1e-12 * torch.eye(len(frames)))
        video = torch.einsum("fg,bcghw->bcfhw", gain, x_seen.double())
        safe = level.clamp_min(1e-9)[None, None, :, None, None]
        velocity = (x.double() - video) / safe
        return torch.where((level > 0)[None, None, :, None, None], velocity, 0.0).to(x.dtype)

    def _places(self) -> list[float]:
        """Where the frames of the window stand in time: guides by their positions, in a view without gaps."""
        first, at = self.window.frames[0], zip(self.window.frames, self.window.role, self.window.positions)
        return [first + position if role == "guide" else frame for frame, role, position in at]

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""

    def state(self) -> dict[str, Tensor]:
        """See `Session`: nothing is remembered."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""


class GaussCodec:
    """Pixels are latents, scaled into [-1, 1]."""

    stride, scale, channels, reach = 1, 1, 3, 1

    def encode(self, frames: Tensor) -> Tensor:
        """See `Codec`."""
        return frames.float() / AMPLITUDE

    def decoder(self) -> GaussDecoder:
        """See `Codec`."""
        return GaussDecoder()


class GaussDecoder:
    """See `GaussCodec`."""

    def push(self, latents: Tensor) -> Tensor:
        """See `Decoder`."""
        return latents * AMPLITUDE

    def flush(self) -> Tensor:
        """See `Decoder`."""
        return torch.zeros(1, 3, 0, 1, 1)
