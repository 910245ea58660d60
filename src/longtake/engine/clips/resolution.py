"""One resolution of the video: starts the stages of its clips, and encodes their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as nnf
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.geometry import first_frame, is_whole, nearest_whole
from longtake.core.noise import Noise, NoiseKey
from longtake.engine.clips.keyframe_latents import KeyframeLatents
from longtake.engine.clips.noise_sampler import NoiseSampler
from longtake.engine.clips.stage import Stage
from longtake.engine.finite_check import check_encoded
from longtake.models.interfaces import Session
from longtake.models.model import Model, SecondStage
from longtake.planning.second_pass import second_pass_window
from longtake.planning.window import Window


@dataclass(frozen=True)
class Resolution:
    """Starts the stage of every clip at one resolution.

    session: makes a model session, with the branches of guidance. downscale: output pixels of the video per pixel of this
    resolution, each way. second_stage: how a stage starts from the result of the stage before it (None: from noise).
    keyframes: encoded at this resolution. source: for video to video, the latents (B C h w) of the input video from an
    output frame on, so many of them. sampled: sample the posterior of frames that are encoded, instead of taking its mean.
    decodes_context_noise: decode clean context frames with the noise that they had in the last step.
    """

    model: Model
    noise: Noise
    session: Callable[[], Session]
    downscale: int = 1
    second_stage: SecondStage | None = None
    keyframes: KeyframeLatents = field(default_factory=KeyframeLatents)
    source: Callable[[int, int], list[Tensor]] | None = None
    sampled: bool = False
    decodes_context_noise: bool = False

    def stage(self, clip: int, first: int) -> Stage:
        """Start the stage of clip number `clip`, whose first output frame is `first`."""
        vae = self.model.vae
        height, width = (side // vae.spatial_compression // self.downscale for side in self.model.size)
        shape = (vae.channels, height, width)
        noise = NoiseSampler(self.noise, shape, self.model.device, clip, first, vae.temporal_compression)
        upsample = None if self.second_stage is None else self.second_stage.upsample
        source = None if self.source is None else partial(self.source, first)
        return Stage(self.session(), noise, self.keyframes, upsample, source)

    def window(self, window: Window) -> Window:
        """Return a window with the sigmas of this resolution: lower ones where a stage starts from upsampled latents."""
        second = self.second_stage
        return window if second is None else second_pass_window(window, second.sigmas)

    def encode(self, frames_B3THW: Tensor, first: int = 0, draw: int = 0) -> list[Tensor]:
        """Encode output frames as latents (B C h w). Raise PlanError if they do not fill whole latents.

        first: output frame, in the video, of the first of them. draw: which draw of the noise a sampled posterior takes.
        """
        vae, count = self.model.vae, frames_B3THW.shape[2]
        if not is_whole(count, vae.temporal_compression):
            low, high = nearest_whole(count, vae.temporal_compression)
            raise PlanError(
                f"{count} input frames do not fill whole latent frames of {vae.temporal_compression}: "
                f"give {low} or {high} frames"
            )
        if self.downscale != 1:
            frames_B3THW = downscaled(frames_B3THW, self.downscale)
        with torch.inference_mode():
            latents = self._encoded(frames_B3THW.to(self.model.device), first, draw)
        check_encoded("a conditioning image or video", latents)
        return list(latents.unbind(2))

    def _encoded(self, frames_B3THW: Tensor, first: int, draw: int) -> Tensor:
        """Return the mean of the posterior (B C F h w), or a sample of it."""
        vae, posterior = self.model.vae, self.model.features.posterior
        if not self.sampled or posterior is None:
            return vae.encode(frames_B3THW)
        mean, deviation = posterior(frames_B3THW)
        starts = [first + first_frame(i, vae.temporal_compression) for i in range(mean.shape[2])]
        keys = [NoiseKey("encode", start, 0, i, draw) for i, start in enumerate(starts)]
        return mean + deviation * self.noise(keys, (mean.shape[1], *mean.shape[3:])).to(mean)


def downscaled(frames_B3THW: Tensor, scale: int) -> Tensor:
    """Shrink frames to 1/scale of their height and width, each pixel the mean of those that it covers."""
    small = nnf.avg_pool2d(frames_B3THW.transpose(1, 2).flatten(0, 1), scale)
    return small.unflatten(0, (len(frames_B3THW), -1)).transpose(1, 2)
