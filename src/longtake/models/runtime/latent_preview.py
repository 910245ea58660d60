"""Small preview images of latents: a linear map from latent channels to RGB, fitted to the model's own VAE.

A linear map of the latent channels gives a recognisable image at a fraction of the cost of decoding. It is fitted once per
VAE by least squares: synthetic frames of smooth colours and edges are encoded, and the map that turns their latents back
into their mean colours is solved for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as nnf
from torch import Tensor

from longtake.models.interfaces import VAE

CLIPS, SIDE = 6, 12  # synthetic clips that are encoded, and their height and width in latent pixels
RIDGE = 1e-3  # keeps factors of channels that the clips hardly move small
_FITTED: WeakKeyDictionary[Any, LatentPreview] = WeakKeyDictionary()


@dataclass(frozen=True)
class LatentPreview:
    """factors: (C + 1, 3), from latent channels and a constant to red, green and blue in [-1, 1]."""

    factors: Tensor

    @staticmethod
    def of(vae: VAE, device: str = "cpu") -> LatentPreview:
        """Return the preview of a VAE, fitted when it is first asked for."""
        if vae not in _FITTED:
            _FITTED[vae] = LatentPreview.fit(vae, device)
        return _FITTED[vae]

    @staticmethod
    def fit(vae: VAE, device: str = "cpu") -> LatentPreview:
        """Fit the factors by least squares over synthetic clips."""
        latents, colours = [], []
        stride, scale = vae.temporal_compression, vae.spatial_compression
        with torch.inference_mode():
            for clip in range(CLIPS):
                video = _synthetic(clip, 1 + stride, SIDE * scale)
                z = vae.encode(video.to(device))[0].float().cpu()  # (C, 2, SIDE, SIDE)
                mean = nnf.avg_pool2d(video[0].transpose(0, 1), scale)  # (frames, 3, SIDE, SIDE)
                latents += [z[:, 0], z[:, 1]]
                colours += [mean[0], mean[1:].mean(0)]
        x = torch.stack(latents).permute(0, 2, 3, 1).flatten(0, 2).double()
        y = torch.stack(colours).permute(0, 2, 3, 1).flatten(0, 2).double()
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
        ridge = RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        ridge[-1, -1] = 0
        return LatentPreview(torch.linalg.solve(x.T @ x + ridge, x.T @ y).float())

    def images(self, latents: Tensor) -> Tensor:
        """Turn latents (C, F, h, w) into images, uint8 (F, h, w, 3)."""
        x = latents.float().cpu().permute(1, 2, 3, 0)
        rgb = x @ self.factors[:-1] + self.factors[-1]
        return ((rgb.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def clean_estimate(before: Tensor, after: Tensor, sigmas_before: Tensor, sigmas_after: Tensor) -> Tensor:
    """Estimate the clean latents (B C F h w) from two consecutive steps of an Euler solver.

    sigmas_before, sigmas_after: (F,). Frames that did not move are returned as they are.
    """
    step = (sigmas_after - sigmas_before).to(after.device, after.dtype)[:, None, None]
    moved = step != 0
    velocity = (after - before) / torch.where(moved, step, 1)
    clean = after - sigmas_after.to(after.device, after.dtype)[:, None, None] * velocity
    return torch.where(moved, clean, after)


def _synthetic(seed: int, frames: int, side: int) -> Tensor:
    """Draw a clip (1, 3, frames, side, side) in [-1, 1]: coarse random colours, half of them with hard edges."""
    generator = torch.Generator().manual_seed(seed)
    cells = (2, 3, 6)[seed % 3]
    colours = torch.rand(1, 3, cells, cells, generator=generator) * 2 - 1
    mode = "nearest" if seed % 2 else "bicubic"
    still = nnf.interpolate(colours, (side, side), mode=mode).clamp(-1, 1)
    return still[:, :, None].expand(-1, -1, frames, -1, -1).contiguous()
