"""Recipe `diffusion_forcing`: diffusion forcing (Chen et al. 2024, SkyReels-V2) of a Wan transformer.

Every latent frame has its own sigma; the target is the velocity noise - video. A mixture says how often each pattern of
sigmas is drawn (see `sigma_sampling.Mixture`). The caption of a window describes its first new frame, so a scene change
right after the context frames teaches the network to follow a new prompt.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.train.datasets.clip_dataset import BatchSpec
from longtake.train.interfaces import Captions
from longtake.train.objectives.self_rollout import SelfRollout
from longtake.train.objectives.sigma_sampling import Mixture, Pattern, draw_history, draw_sigmas
from longtake.train.objectives.velocity import Sample
from longtake.train.toml_config import read_table
from longtake.train.video.config import VideoConfig
from longtake.train.video.recipe import VideoRecipe
from longtake.train.video.training import VideoTraining
from longtake.train.weights.model_card import ModelCard, model_card


@dataclass(frozen=True)
class DiffusionForcingConfig(VideoConfig):
    """Settings of diffusion forcing, beside those of `VideoConfig`.

    mixture: shares of the sigma patterns. self_rollout: context frames denoised by the network itself.
    """

    mixture: Mixture = field(default_factory=Mixture)
    self_rollout: SelfRollout = field(default_factory=SelfRollout)


CONFIG = DiffusionForcingConfig


class ForcingSampler:
    """Draws windows whose frames have sigmas of their own."""

    def __init__(self, config: DiffusionForcingConfig, video: VideoTraining):
        self.config, self.video = config, video

    def __call__(self, step: int, generator: torch.Generator) -> Sample:
        """Draw the sample of a step."""
        sample = self.windows(self.video.batch_spec(step, generator), generator)
        return replace(sample, video=self.config.self_rollout.videos(self.video.velocity, sample, generator))

    def windows(self, spec: BatchSpec, generator: torch.Generator) -> Sample:
        """Draw windows with sigmas and captions."""
        count, frames, mixture = self.video.videos_per_step(spec.cost), spec.frames, self.config.mixture
        pattern = mixture.patterns(generator, count)
        history = draw_history(generator, count, frames)
        sigma = draw_sigmas(generator, pattern, history, frames, mixture.shift)
        rng = random.Random(int(torch.randint(1 << 62, (), generator=generator)))
        windows = [self.window(Pattern(int(p)), int(h), spec, rng) for p, h in zip(pattern, history)]
        video, sprite, captions = zip(*windows)
        clean = torch.stack(video)
        noise = torch.randn(clean.shape, generator=generator)
        is_context = (pattern == Pattern.HISTORY)[:, None] & (torch.arange(frames) < history[:, None])
        return Sample(clean, noise, sigma, torch.stack(sprite), list(captions), is_context)

    def window(
        self, pattern: Pattern, history: int, spec: BatchSpec, rng: random.Random
    ) -> tuple[Tensor, Tensor, Captions]:
        """Draw one window: latents (C, F, h, w), sprite cover (F, h, w) and captions.

        With context frames it may begin anywhere in a clip; without, in a clip with one caption; with equal sigmas it begins
        with the clip.
        """
        data = self.video.data
        number = rng.choice(spec.numbers if pattern == Pattern.HISTORY else spec.single_caption)
        change, last = data.caption_change(number), data.length(number) - spec.frames
        start, first_new = (0 if pattern == Pattern.EQUAL else rng.randint(0, last)), 0
        if pattern == Pattern.HISTORY:
            if change is not None and rng.random() < 0.75:
                start = min(max(change - history, 0), last)
            first_new = start + history
        words = "" if rng.random() < self.config.caption_dropout else data.caption(number, first_new, rng)
        captions = [(0, words)]
        if words and pattern != Pattern.HISTORY and change is not None:
            captions = list(data.captions(number, start, spec.frames, rng))
        return *data.window(number, start, spec.frames), captions


def make(config: Mapping[str, Any], out: Path) -> VideoRecipe:
    """Make the recipe from its table and the run's folder."""
    settings = read_table(CONFIG, config, "diffusion_forcing")
    video = VideoTraining.open(settings, out, model_card(ModelCard(), settings.card, "diffusion_forcing.card"))
    uniform = settings.self_rollout.self_rollout_share == 0
    return VideoRecipe(video, ForcingSampler(settings, video), uniform)


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    schedule = ((0.5, (5, 9)), (1.0, (9,)))
    return {**parts.video, "network": parts.network, "length_schedule": schedule, "steps": 30}
