"""Statistics of latents: matched to those of other latents (AdaIN), and large values pressed together (tone map).

Shapes: B videos, C channels, F latent frames, H W latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-6


def statistics(x_BCFHW: Tensor) -> Tensor:
    """Mean and standard deviation of every channel over the clip. (2, B, C)"""
    std, mean = torch.std_mean(x_BCFHW, dim=(2, 3, 4))
    return torch.stack([mean, std])


def matched(x_BCFHW: Tensor, to_2BC: Tensor, share: float = 1.0) -> Tensor:
    """x with its statistics moved towards others by `share`: AdaIN (Huang and Belongie 2017, eq. 8) between clips."""
    mean, std = statistics(x_BCFHW)[..., None, None, None]
    to_mean, to_std = to_2BC.to(x_BCFHW)[..., None, None, None]
    new_std = torch.lerp(std, to_std, share).clamp_min(TINY)
    return (x_BCFHW - mean) / (std + TINY) * new_std + torch.lerp(mean, to_mean, share)


def tone_mapped(x: Tensor, compression: float) -> Tensor:
    """x with large values pressed together: x * (1 - 0.8 k sigmoid(4 k (|x| - 1))), k = 0.75 * compression (LTX-Video).

    ValueError unless compression lies in [0, 1]; 0 changes nothing.
    """
    if not 0 <= compression <= 1:
        raise ValueError(f"a tone map's compression lies in [0, 1], not {compression}")
    k = 0.75 * compression
    return x * (1 - 0.8 * k * torch.sigmoid(4 * k * (x.abs() - 1)))
