"""Noise: normal numbers as a pure function of where they go, and how video and noise are mixed.

No generator is carried along, so resuming a run needs no rng state, and two strategies can be compared on one noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

Purpose = Literal["start", "renoise", "context", "keyframe", "step", "decode", "inject", "encode"]
HASHED: dict[Purpose, str] = {"renoise": "lift", "keyframe": "guide"}  # other names would give every video other noise


@dataclass(frozen=True)
class NoiseKey:
    """The place of a piece of noise: enough to draw it without knowing what was drawn before.

    purpose: "start" is the noise that a frame begins with; "renoise" takes a cleaner frame back to a higher sigma;
    "context" is added to context frames and "keyframe" to keyframes; "step" is drawn by a stochastic solver; "decode" goes
    into latents before they are decoded, "inject" into a layer of the VAE, and "encode" samples its posterior.
    frame: first output frame of the latent, counted from the start of the video. clip, index: the clip, and the latent
    frame in it. draw: from the plan (`Window.noise_draw`). step: the step inside the window, for noise that each step
    draws again; for a stochastic solver the sigma after the step in millionths, which names it whatever the window.
    """

    purpose: Purpose
    frame: int
    clip: int
    index: int
    draw: int = 0
    step: int = 0


class Noise(Protocol):
    """Standard normal noise as a pure function of its keys."""

    def __call__(self, keys: Sequence[NoiseKey], shape: tuple[int, int, int]) -> Tensor:
        """Return noise for latents of shape (C, H, W), one per key: (B, C, F, H, W) float32 on the CPU."""


@dataclass(frozen=True)
class CounterNoise:
    """The default noise: counter-based (Philox), one key per latent frame, one seed per video of the batch.

    Equal keys give equal noise, whatever the strategy, the window or the order of the steps; the clip and the index in it
    do not count.
    """

    seeds: tuple[int, ...] = (0,)

    def __call__(self, keys: Sequence[NoiseKey], shape: tuple[int, int, int]) -> Tensor:
        """Return the noise of the keys for each seed (see `Noise`)."""
        return torch.stack([torch.stack([self._one(seed, key, shape) for key in keys], 1) for seed in self.seeds])

    @staticmethod
    def _one(seed: int, key: NoiseKey, shape: tuple[int, int, int]) -> Tensor:
        purpose = HASHED.get(key.purpose, key.purpose)
        name = f"{seed}|{purpose}|{key.frame}|{key.draw}|{key.step}".encode()
        philox = np.random.Philox(key=np.frombuffer(hashlib.blake2b(name, digest_size=16).digest(), dtype=np.uint64))
        return torch.from_numpy(np.random.Generator(philox).standard_normal(shape, dtype=np.float32))


@dataclass(frozen=True)
class PerClip:
    """A published way of seeding: torch's CPU generator draws a whole clip at once, seeded `factor * clip` (SVI: 42).

    length: latent frames of a clip. first: the number of the first clip.
    """

    length: int
    factor: int = 42
    first: int = 0

    def __call__(self, keys: Sequence[NoiseKey], shape: tuple[int, int, int]) -> Tensor:
        """Return the noise of the keys, for one video (see `Noise`). Raise ValueError unless it starts a frame."""
        if any(key.purpose != "start" for key in keys):
            raise ValueError("noise per clip only starts frames: use CounterNoise with a strategy that renoises them")
        rng = torch.Generator().manual_seed(self.factor * (self.first + keys[0].clip))
        channels, *size = shape
        clip = torch.randn((1, channels, self.length, *size), generator=rng)
        return clip[:, :, [key.index for key in keys]]


@dataclass
class Recorded:
    """Noise from a table, to compare with another implementation: {(purpose, clip, index, draw, step): (B, C, H, W)}."""

    table: dict[tuple[str, int, int, int, int], Tensor]

    def __call__(self, keys: Sequence[NoiseKey], shape: tuple[int, int, int]) -> Tensor:
        """Return the noise of the keys (see `Noise`). Raise KeyError for one that is not in the table."""
        return torch.stack([self.table[(k.purpose, k.clip, k.index, k.draw, k.step)] for k in keys], 2)


def mix(video: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return (1 - sigma) * video + sigma * noise; sigma (F,) or (B, F) belongs to axis 2 of (B, C, F, H, W)."""
    sigma = per_frame(sigma, video)
    return (1 - sigma) * video + sigma * noise


def renoise(x: Tensor, noise: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
    """Take frames x (B, C, F, H, W) from `sigma` (F,) up to `target` (F,) with new noise. Equal sigmas change nothing.

    (1 - target) / (1 - sigma) scales the video part; noise is added until its variance is target squared.
    """
    keep = torch.where(sigma < 1, (1 - target) / (1 - sigma).clamp_min(1e-12), 1.0)
    add = (target**2 - (keep * sigma) ** 2).clamp_min(0).sqrt()
    raised = per_frame(keep, x) * x + per_frame(add, x) * noise
    return torch.where(per_frame(target != sigma, x), raised, x)


def per_frame(values: Tensor, x: Tensor) -> Tensor:
    """Shape values (F,) or (B, F) to broadcast over x (B, C, F, H, W), in its dtype and on its device."""
    if values.dtype != torch.bool:
        values = values.to(x.dtype)
    values = values.to(x.device)
    return values[:, None, :, None, None] if values.ndim == 2 else values[None, None, :, None, None]
