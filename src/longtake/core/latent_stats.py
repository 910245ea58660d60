"""Latent statistics: matched to those of other latents (AdaIN), and large values compressed (tone mapping).

Shapes: B videos, C channels, F latent frames, H W latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-6


def statistics(x_BCFHW: Tensor) -> Tensor:
    """Return mean and standard deviation of every channel over the clip; a single value has none. (2, B, C)"""
    alone = x_BCFHW[0, 0].numel() == 1
    std, mean = torch.std_mean(x_BCFHW, dim=(2, 3, 4), correction=0 if alone else 1)
    return torch.stack([mean, std])


def matched(x_BCFHW: Tensor, to_2BC: Tensor, share: float = 1.0) -> Tensor:
    """Move the statistics of x towards others by `share`: AdaIN (Huang and Belongie 2017, eq. 8) between clips."""
    mean, std = statistics(x_BCFHW)[..., None, None, None]
    to_mean, to_std = to_2BC.to(x_BCFHW)[..., None, None, None]
    new_std = torch.lerp(std, to_std, share).clamp_min(TINY)
    return (x_BCFHW - mean) / (std + TINY) * new_std + torch.lerp(mean, to_mean, share)


def tone_mapped(x: Tensor, compression: float) -> Tensor:
    """Compress large values: x * (1 - 0.8 k sigmoid(4 k (|x| - 1))), k = 0.75 * compression (LTX-Video).

    Raise ValueError unless compression lies in [0, 1]; 0 changes nothing.
    """
    if not 0 <= compression <= 1:
        raise ValueError(f"the compression of a tone map must lie in [0, 1], not {compression}")
    k = 0.75 * compression
    return x * (1 - 0.8 * k * torch.sigmoid(4 * k * (x.abs() - 1)))
