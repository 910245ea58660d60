"""What an image-to-video Wan network is told of known frames: a mask and latents beside x, and what CLIP sees.

Shapes: B videos, C latent channels, F latent frames in view, T known output frames, H W pixels, h w latent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.geometry import frames_of_latents
from longtake.models.base import Past
from longtake.models.clip import ClipVision
from longtake.models.wan_codec import WanCodec
from longtake.plan import PlanError, Window


@dataclass(frozen=True)
class Beside:
    """beside_BCFhw: one mask channel per output frame of a latent, then latents. image_BLD: CLIP tokens of the first
    frame (None: the network sees no CLIP)."""

    beside_BCFhw: Tensor
    image_BLD: Tensor | None = None


@dataclass(frozen=True)
class Teller:
    """Makes what is told of the frames with which a take begins. eyes: for a network that sees CLIP tokens."""

    codec: WanCodec
    eyes: ClipVision | None = None

    @torch.no_grad()
    def __call__(self, window: Window, past: Past) -> Beside:
        """PlanError if the window does not begin with frames that are known as pixels."""
        if past.frames is None:
            raise PlanError(
                "this checkpoint makes video from an image: give it one (--image FILE), and --hand frames over as pixels"
            )
        if window.frames[0] != 0 or "guide" in window.role:
            raise PlanError(
                "this checkpoint is told of the first frames of a take, and of no others: use --plan crossclip"
            )
        frames, count = past.frames[:, :, :0] if past.untold else past.frames, len(window.frames)
        latents = self.codec.encode(followed_by_grey(frames, frames_of_latents(count, self.codec.stride)))
        mask = known(frames.shape[2], count, self.codec.stride)
        return Beside(masked(mask, latents), self.eyes.see(past.frames[:, :, 0]) if self.eyes else None)


def followed_by_grey(frames: Tensor, count: int) -> Tensor:
    """Known frames (B 3 T H W) in [-1, 1], and frames of zeros up to `count`."""
    rest = frames.new_zeros(*frames.shape[:2], count - frames.shape[2], *frames.shape[3:])
    return torch.cat([frames, rest], 2)


def masked(mask: Tensor, latents: Tensor) -> Tensor:
    """What stands beside x: mask channels (stride, F) or (B, stride, F), then the latents (B C F h w)."""
    mask_BSFhw = mask.to(latents).reshape(-1, *mask.shape[-2:], 1, 1)
    return torch.cat([mask_BSFhw.expand(len(latents), -1, -1, *latents.shape[3:]), latents], 1)


def known(frames: int, latents: int, stride: int) -> Tensor:
    """(stride, F): 1 for every output frame that is known; the first latent has its only frame `stride` times."""
    places = torch.arange(latents * stride) - (stride - 1)
    return (places.clamp_min(0) < frames).float().unflatten(0, (latents, stride)).T
