"""First frames of a clip as channels that are concatenated to the noisy latents: a mask, and the frames followed by grey.

Shapes: B videos, C latent channels, F latent frames, T frames, H W pixels, h w latent pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def followed_by_grey(frames: Tensor, count: int) -> Tensor:
    """Append grey frames (zeros) to frames (B, 3, T, H, W) in [-1, 1], up to `count` frames."""
    rest = frames.new_zeros(*frames.shape[:2], count - frames.shape[2], *frames.shape[3:])
    return torch.cat([frames, rest], 2)


def masked(mask: Tensor, latents: Tensor) -> Tensor:
    """Concatenate mask channels (temporal_compression, F), with or without a batch, and latents (B, C, F, h, w)."""
    mask_BSFhw = mask.to(latents).reshape(-1, *mask.shape[-2:], 1, 1)
    return torch.cat([mask_BSFhw.expand(len(latents), -1, -1, *latents.shape[3:]), latents], 1)


def known(frames: int, latents: int, temporal_compression: int) -> Tensor:
    """Return the mask (temporal_compression, F): 1 for context frames; the only frame of the first latent is repeated."""
    places = torch.arange(latents * temporal_compression) - (temporal_compression - 1)
    return (places.clamp_min(0) < frames).float().unflatten(0, (latents, temporal_compression)).T
