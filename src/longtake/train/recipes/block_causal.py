"""Recipe `block_causal`: a block-causal Wan network, which generates video block by block from a key/value cache.

Most steps are teacher forcing: every block is noisy once, with a sigma of its own, and attends to clean blocks before it.
Other steps train what a sliding staircase of sigmas needs (one sigma per block, rising along time), and one sigma for all
frames. Every frame follows the caption of its own time, so a scene change in a clip teaches the network to follow a new
prompt.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from longtake.train.datasets.clip_dataset import BatchSpec
from longtake.train.objectives.self_rollout import SelfRollout
from longtake.train.objectives.sigma_sampling import block_staircase_sigmas, equal_sigmas, independent_sigmas
from longtake.train.objectives.velocity import Sample, blocks_of
from longtake.train.toml_config import read_table
from longtake.train.video.config import VideoConfig
from longtake.train.video.recipe import VideoRecipe
from longtake.train.video.training import VideoTraining
from longtake.train.weights.model_card import ModelCard, model_card

CARD = ModelCard(name="pocket-causal", strategy="blocks", strategy_options={})


@dataclass(frozen=True)
class BlockCausalConfig(VideoConfig):
    """Settings of block-causal training, beside those of `VideoConfig`.

    teacher_forcing_share, staircase_share: shares of the steps; the other steps have one sigma for all frames.
    mid_clip_share: share of windows that begin inside a clip; the others begin with it, as every video does.
    self_rollout: context frames, of the teacher-forcing steps, denoised by the network itself.
    """

    teacher_forcing_share: float = 0.6
    staircase_share: float = 0.3
    mid_clip_share: float = 0.3
    self_rollout: SelfRollout = field(default_factory=SelfRollout)

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = (self.teacher_forcing_share, self.staircase_share)
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ValueError(
                f"teacher_forcing_share and staircase_share are {shares[0]} and {shares[1]}: use shares that add up to at "
                "most 1"
            )


CONFIG = BlockCausalConfig


class CausalSampler:
    """Draws windows for a block-causal network."""

    def __init__(self, config: BlockCausalConfig, video: VideoTraining):
        self.config, self.video, self.net = config, video, video.module
        if not self.net.config.causal:
            raise ValueError("the network attends to all frames at once: set causal = true (and block) in its table")

    def __call__(self, step: int, generator: torch.Generator) -> Sample:
        """Draw the sample of a step."""
        config, spec = self.config, self.video.batch_spec(step, generator)
        draw = float(torch.rand((), generator=generator))
        if draw < config.teacher_forcing_share:
            return self.teacher_forcing(self.windows(spec, 2 * spec.cost, generator), generator)
        windows = self.windows(spec, spec.cost, generator)
        count, frames, blocks = len(windows.video), spec.frames, blocks_of(self.net, spec.frames) or []
        if draw < config.teacher_forcing_share + config.staircase_share:
            sigma = block_staircase_sigmas(generator, count, blocks[-1] + 1, config.shift)[:, blocks]
        else:
            sigma = equal_sigmas(generator, count, frames, config.shift)
        return replace(windows, sigma=sigma)

    def teacher_forcing(self, windows: Sample, generator: torch.Generator) -> Sample:
        """Give every block a sigma of its own, after clean frames or the network's own version of them."""
        blocks = blocks_of(self.net, windows.frames) or []
        sigma = independent_sigmas(generator, len(windows.video), blocks[-1] + 1, self.config.shift)[:, blocks]
        every_frame = replace(windows, is_context=torch.ones_like(sigma, dtype=torch.bool))
        clean = self.config.self_rollout.videos(self.video.velocity, every_frame, generator)
        return replace(windows, sigma=sigma, clean_context=clean)

    def windows(self, spec: BatchSpec, cost: int, generator: torch.Generator) -> Sample:
        """Draw as many windows as the step can afford, with zeros as sigmas. cost: of a window, in latent frames."""
        rng = random.Random(int(torch.randint(1 << 62, (), generator=generator)))
        data, frames, videos, sprites, captions = self.video.data, spec.frames, [], [], []
        for _ in range(self.video.videos_per_step(cost)):
            number = rng.choice(spec.numbers)
            mid_clip = rng.random() < self.config.mid_clip_share
            start = rng.randint(0, data.length(number) - frames) if mid_clip else 0
            video, sprite = data.window(number, start, frames)
            videos.append(video)
            sprites.append(sprite)
            captions.append(self.video.captions(number, start, frames, rng))
        clean = torch.stack(videos)
        noise = torch.randn(clean.shape, generator=generator)
        return Sample(clean, noise, torch.zeros(len(clean), frames), torch.stack(sprites), captions)


def make(config: Mapping[str, Any], out: Path) -> VideoRecipe:
    """Make the recipe from its table and the run's folder."""
    settings = read_table(CONFIG, config, "block_causal")
    video = VideoTraining.open(settings, out, model_card(CARD, settings.card, "block_causal.card"))
    return VideoRecipe(video, CausalSampler(settings, video))


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    return {**parts.video, "network": {**parts.network, "causal": True, "block": 3, "max_latent_frames": 6}}
