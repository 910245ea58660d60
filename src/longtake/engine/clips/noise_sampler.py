"""The noise of one clip at one resolution: turns latent frames into noise keys and draws them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from longtake.core.geometry import first_frame
from longtake.core.noise import Noise, NoiseKey, Purpose
from longtake.planning.window import Window


@dataclass(frozen=True)
class NoiseSampler:
    """Draws noise of a latent shape (C, h, w) for a clip.

    clip: its number. first: its first output frame in the video. device: where the noise is used.
    """

    noise: Noise
    shape: tuple[int, int, int]
    device: str
    clip: int
    first: int
    temporal_compression: int

    def draw(self, window: Window, purpose: Purpose, frames: Sequence[int], step: int = 0) -> Tensor:
        """Draw (B C F h w) for latent frames of the clip. Only context noise differs from step to step."""
        at = step if purpose == "context" else 0
        return self._drawn([self._key(purpose, f, window.noise_draw, at) for f in frames])

    def step_noise(self, window: Window, sigma_next: Tensor, redone: Collection[int]) -> Tensor:
        """Draw the noise (B C F h w) of a stochastic solver's step to sigma_next (F,).

        redone: frames that were clean before the window; they get other noise than the first time.
        """
        draws = [window.noise_draw + (f in redone) for f in window.frames]
        steps = [round(1e6 * sigma) for sigma in sigma_next.tolist()]
        return self._drawn([self._key("step", f, draw, at) for f, draw, at in zip(window.frames, draws, steps)])

    def _key(self, purpose: Purpose, frame: int, draw: int, step: int) -> NoiseKey:
        return NoiseKey(
            purpose, self.first + first_frame(frame, self.temporal_compression), self.clip, frame, draw, step
        )

    def _drawn(self, keys: list[NoiseKey]) -> Tensor:
        return self.noise(keys, self.shape).to(self.device)
