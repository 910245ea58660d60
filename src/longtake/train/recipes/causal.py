"""Recipe `causal`: a block-causal Wan network, which makes video block by block from stored keys and values.

Most steps are teacher forcing: every block is noisy once, at a level of its own, and sees clean blocks before it. The
others train what a sliding staircase of levels needs (one level per block, rising along time), and one level for all.
Every frame follows the caption of its own time, so a switch in a clip teaches how a new prompt takes over.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtake.noise import mix
from longtake.train.export import Card
from longtake.train.levels import block_staircase, equal_levels, independent_levels
from longtake.train.teacher import banded, blocks_of, teacher_spans
from longtake.train.video import Told, Video, VideoConfig

CARD = Card(name="pocket-causal", plan="blocks", options={})


@dataclass(frozen=True)
class CausalConfig(VideoConfig):
    """teacher, staircase: shares of the steps; the rest has one level for all frames. inside: share of windows that
    begin inside a clip, the others begin with it, as every video does."""

    teacher: float = 0.6
    staircase: float = 0.3
    inside: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.teacher, self.staircase) < 0 or self.teacher + self.staircase > 1 + 1e-9:
            raise ValueError(f"shares {self.teacher} + {self.staircase} must lie between 0 and 1")


@dataclass(frozen=True)
class Batch:
    """Windows of video (B C F h w), their sprite (B F h w) and captions."""

    video: Tensor
    sprite: Tensor
    told: list[Told]


class CausalRecipe:
    """Velocity matching block by block."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = CausalConfig(**config)
        self.video = Video(self.config, out, replace(CARD, **self.config.card))
        self.net = self.video.module
        if not self.net.config.causal:
            raise ValueError("the network sees all frames at once: set causal = true (and block) in its table")

    @property
    def module(self) -> nn.Module:
        """See `Recipe`."""
        return self.net

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """Weighted mean square of the velocity error of noisy frames."""
        frames, draw = self.config.length(step, rng), float(torch.rand((), generator=rng))
        teacher = draw < self.config.teacher
        batch = self.batch(frames, 2 * frames if teacher else frames, rng)
        if teacher:
            return self.teacher_loss(batch, rng)
        return self.plain_loss(batch, rng, draw < self.config.teacher + self.config.staircase)

    def teacher_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Every block at a level of its own, told of the clean blocks before it."""
        count, _, frames = batch.video.shape[:3]
        blocks, view = self._blocks(frames), self.net.config.view
        level = independent_levels(rng, count, blocks[-1] + 1, self.config.shift)[:, blocks]
        noise = torch.randn(batch.video.shape, generator=rng)
        both = torch.cat([batch.video, mix(batch.video, noise, level)], 2)
        told = self.video.told(batch.told, frames)
        velocity = self.net(
            both, torch.cat([torch.zeros_like(level), level], 1), told["text"], 2 * list(range(frames)),
            scene=2 * told["scene"], spans=teacher_spans(blocks, view),
        )[:, :, frames:]  # fmt: skip
        return self.video.error(velocity, noise - batch.video, batch.sprite, level)

    def plain_loss(self, batch: Batch, rng: torch.Generator, staircase: bool) -> Tensor:
        """All frames once: with one level per block that rises along time, or with one level in all."""
        count, _, frames = batch.video.shape[:3]
        blocks = self._blocks(frames)
        if staircase:
            level = block_staircase(rng, count, blocks[-1] + 1, self.config.shift)[:, blocks]
        else:
            level = equal_levels(rng, count, frames, self.config.shift)
        noise = torch.randn(batch.video.shape, generator=rng)
        spans = banded(blocks, self.net.config.view)
        velocity = self.net(mix(batch.video, noise, level), level, **self.video.told(batch.told, frames), spans=spans)
        return self.video.error(velocity, noise - batch.video, batch.sprite, level)

    def batch(self, frames: int, cost: int, rng: torch.Generator) -> Batch:
        """Windows of `frames` latents at random, as many as the step can afford when each takes `cost` of its frames."""
        chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
        data, last = self.video.data, self.video.data.latents.shape[2] - frames
        if last < 0:
            raise ValueError(f"clips of {last + frames} latents are shorter than {frames}: change lengths")
        videos, sprites, told = [], [], []
        for _ in range(max(1, self.config.frames // cost)):
            number = chance.randrange(len(data))
            start = chance.randint(0, last) if chance.random() < self.config.inside else 0
            video, sprite = data.window(number, start, frames)
            videos.append(video)
            sprites.append(sprite)
            told.append(self.video.captions(number, start, frames, chance))
        return Batch(torch.stack(videos), torch.stack(sprites), told)

    def check(self, step: int, out: Path) -> dict[str, float]:
        """See `Video.check`."""
        return self.video.check(step, out)

    def finish(self, out: Path) -> None:
        """See `Video.finish`."""
        self.video.finish(out)

    def _blocks(self, frames: int) -> list[int]:
        return blocks_of(frames, self.net.config.block)
