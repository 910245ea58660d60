"""Samples of full-sequence flow matching: one sigma for all frames of a video, which begins with its clip."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longtake.train.datasets.clip_dataset import BatchSpec
from longtake.train.objectives.sigma_sampling import logit_normal_sigmas, shifted_sigmas
from longtake.train.objectives.velocity import Sample
from longtake.train.video.config import VideoConfig
from longtake.train.video.training import VideoTraining


@dataclass(frozen=True)
class FullSequenceConfig(VideoConfig):
    """Settings of full-sequence flow matching, beside those of `VideoConfig`.

    sigma_distribution: "shifted" draws sigmas uniformly, "logit-normal" draws log(s / (1 - s)) normally; both are then
    moved towards noise by `shift` (Esser et al. 2024). mean, deviation: of the logit-normal distribution.
    """

    sigma_distribution: Literal["shifted", "logit-normal"] = "shifted"
    mean: float = 0.0
    deviation: float = 1.0

    def draw_sigmas(self, generator: torch.Generator, count: int, frames: int) -> Tensor:
        """Draw one sigma per video (B, F)."""
        if self.sigma_distribution == "shifted":
            sigma = shifted_sigmas(generator, count, self.shift)
        else:
            sigma = logit_normal_sigmas(generator, count, self.mean, self.deviation, self.shift)
        return sigma[:, None].expand(count, frames)


def clip_beginnings(
    config: FullSequenceConfig, video: VideoTraining, spec: BatchSpec, generator: torch.Generator
) -> tuple[Sample, list[int]]:
    """Draw the first latent frames of clips with one caption; also return the numbers of the clips."""
    rng = random.Random(int(torch.randint(1 << 62, (), generator=generator)))
    count, frames = video.videos_per_step(spec.cost), spec.frames
    numbers = [rng.choice(spec.single_caption) for _ in range(count)]
    clips, sprite = zip(*(video.data.window(n, 0, frames) for n in numbers))
    captions = [video.captions(n, 0, frames, rng) for n in numbers]
    sigma, clean = config.draw_sigmas(generator, count, frames), torch.stack(clips)
    noise = torch.randn(clean.shape, generator=generator)
    return Sample(clean, noise, sigma, torch.stack(sprite), captions), numbers
