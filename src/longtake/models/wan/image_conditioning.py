"""Image-to-video conditioning of Wan: a mask and latents concatenated to x by channel, and CLIP image features.

Shapes: B videos, C latent channels, F latent frames in view, T context frames, H W pixels, h w latent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.geometry import frames_of_latents
from longtake.models.encoders.clip_vision import ClipVision
from longtake.models.first_frames import followed_by_grey, known, masked
from longtake.models.interfaces import VAE, ContextFrames
from longtake.planning.window import Window


@dataclass(frozen=True)
class ConcatConditioning:
    """What is concatenated to x by channel, and image features.

    concat_BCFhw: one mask channel per output frame of a latent, then latents. image_BLD: CLIP tokens of the first frame
    (None: the network takes none).
    """

    concat_BCFhw: Tensor
    image_BLD: Tensor | None = None


@dataclass(frozen=True)
class ImageConditioner:
    """Encodes the first frames of a clip. image_encoder: for a network with CLIP tokens."""

    vae: VAE
    image_encoder: ClipVision | None = None

    @torch.no_grad()
    def __call__(self, window: Window, context: ContextFrames) -> ConcatConditioning:
        """Return the conditioning of a window. Raises PlanError if it does not begin with context frames given as pixels."""
        if context.pixels is None:
            raise PlanError(
                "this checkpoint generates video from an image: give one with --image FILE, and use a --handoff by pixels"
            )
        if window.frames[0] != 0 or "keyframe" in window.role:
            raise PlanError(
                "this checkpoint is conditioned only on the first frames of a clip: use --strategy clip-conditioned"
            )
        frames, count = context.pixels[:, :, :0] if context.no_context else context.pixels, len(window.frames)
        latents = self.vae.encode(followed_by_grey(frames, frames_of_latents(count, self.vae.temporal_compression)))
        mask = known(frames.shape[2], count, self.vae.temporal_compression)
        return ConcatConditioning(
            masked(mask, latents),
            self.image_encoder.encode_image(context.pixels[:, :, 0]) if self.image_encoder else None,
        )
