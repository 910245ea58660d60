"""The Gaussian toy model: frames of a stationary AR(1) process, whose velocity has a closed form at any mix of sigmas.

A rollout that handles sigmas, noise and overlaps correctly keeps the variance 1 and the correlation of neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from longtake.models.interfaces import Conditioning, ContextFrames
from longtake.models.model import Model, ModelInfo, SamplingDefaults, VideoFormat
from longtake.models.toy.null_text_encoder import NullTextEncoder
from longtake.planning.limits import Limits
from longtake.planning.window import Window

AMPLITUDE = 0.15  # of a standard deviation, in output pixels of [-1, 1]


def gauss(
    correlation: float = 0.9,
    max_latent_frames: int = 25,
    size: int = 16,
    conditioning: Literal["inpaint", "concat"] = "inpaint",
) -> Model:
    """Return a model of independent AR(1) pixels with this lag-1 correlation; one output frame per latent."""
    return Model(
        info=ModelInfo("gauss", "gauss", digest=f"gauss-{correlation}-{max_latent_frames}-{conditioning}"),
        format=VideoFormat(fps=24.0, size=(size, size)),
        limits=Limits(max_latent_frames=max_latent_frames, conditioning=conditioning),
        session=lambda: GaussSession(correlation),
        vae=GaussVAE(),
        text_encoder=NullTextEncoder(),
        defaults=SamplingDefaults(strategy_options={"steps": 40}, sampling_options={"steps": 40}),
    )


class GaussSession:
    """A `Session` that returns E[noise - video | x] for Gaussian frames, which is linear in x."""

    def __init__(self, correlation: float):
        self.correlation = correlation

    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Keep the window and its context frames."""
        self.window, self.known = window, context.latents

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the velocity; frames concatenated by channel count as clean."""
        frames = torch.tensor(self._places(), dtype=torch.float64)
        concat = torch.tensor([role == "concat" for role in self.window.role])
        level = torch.where(concat, 0.0, sigma)
        x_given = x.clone()
        for i in concat.nonzero()[:, 0].tolist():
            x_given[:, :, i] = self.known[self.window.frames[i]]
        cov = self.correlation ** (frames[:, None] - frames[None]).abs()
        keep, add = torch.diag(1 - level), torch.diag(level)
        gain = cov @ keep @ torch.linalg.inv(keep @ cov @ keep + add @ add + 1e-12 * torch.eye(len(frames)))
        video = torch.einsum("fg,bcghw->bcfhw", gain, x_given.double())
        safe = sigma.clamp_min(1e-9)[None, None, :, None, None]
        velocity = (x.double() - video) / safe
        return torch.where((sigma > 0)[None, None, :, None, None], velocity, 0.0).to(x.dtype)

    def _places(self) -> list[float]:
        """Return the times of the frames of the window: keyframes by their positions, in a view without gaps."""
        first, at = self.window.frames[0], zip(self.window.frames, self.window.role, self.window.positions)
        return [first + position if role == "keyframe" else frame for frame, role, position in at]

    def finish(self, window: Window, x: Tensor) -> None:
        """Do nothing."""

    def state(self) -> dict[str, Tensor]:
        """Return nothing: no state is kept."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore nothing."""


class GaussVAE:
    """A `VAE` whose pixels are its latents, scaled into [-1, 1]."""

    temporal_compression, spatial_compression, channels, replay_latents = 1, 1, 3, 1

    def encode(self, frames: Tensor) -> Tensor:
        """Scale pixels to latents."""
        return frames.float() / AMPLITUDE

    def decoder(self) -> GaussDecoder:
        """Return a new streaming decoder."""
        return GaussDecoder()


class GaussDecoder:
    """Scales latents to pixels; it withholds nothing."""

    def __init__(self) -> None:
        self.size = (1, 1)

    def push(self, latents: Tensor) -> Tensor:
        """Return the frames (B, 3, F, H, W) of latents."""
        self.size = (latents.shape[3], latents.shape[4])
        return latents * AMPLITUDE

    def flush(self) -> Tensor:
        """Return no frames."""
        return torch.zeros(1, 3, 0, *self.size)
