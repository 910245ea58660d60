"""Patches: what the VAEs of several families do to frames before their first and after their last convolution."""

from __future__ import annotations

from torch import Tensor

from longtake.models.interfaces import VAE
from longtake.models.layers import wide


def fold_patches(frames: Tensor, patch: int) -> Tensor:
    """Fold patches into channels: (B, 3, T, H, W) -> (B, T, h, w, C), channels ordered colour, column, row."""
    x = frames.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # B 3 T h row w column
    return x.permute(0, 2, 3, 5, 1, 6, 4).flatten(4)


def unfold_patches(x: Tensor, patch: int) -> Tensor:
    """Spread channels (B, T, h, w, C) to patches, in at least float32: a view (B, 3, T, h, row, w, column)."""
    return wide(x).unflatten(4, (-1, patch, patch)).permute(0, 4, 1, 2, 6, 3, 5)


def join_patches(patches: Tensor) -> Tensor:
    """Join patches (B, 3, T, h, row, w, column) to frames (B, 3, T, H, W)."""
    return patches.flatten(5).flatten(3, 4)


def check_whole_latents(frames: Tensor, vae: VAE) -> None:
    """Raise ValueError unless frames (B, 3, T, H, W) fill whole latent frames and whole latent pixels."""
    count, height, width = frames.shape[2:]
    temporal, spatial = vae.temporal_compression, vae.spatial_compression
    if (count - 1) % temporal:
        near = 1 + (count - 1) // temporal * temporal
        raise ValueError(f"{count} frames are not whole latents: use 1 + {temporal} * k frames, such as {near}")
    if height % spatial or width % spatial:
        raise ValueError(f"frames of {width}x{height} pixels are not whole latent pixels: use multiples of {spatial}")
