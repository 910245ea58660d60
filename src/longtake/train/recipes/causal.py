"""Recipe `causal`: a block-causal Wan network, which makes video block by block from stored keys and values.

Most steps are teacher forcing: every block is noisy once, at a level of its own, and sees clean blocks before it. The
others train what a sliding staircase of levels needs (one level per block, rising along time), and one level for all.
Every frame follows the caption of its own time, so a switch in a clip teaches how a new prompt takes over.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from longtake.train.config import read_table
from longtake.train.export import Card, card_of
from longtake.train.history import OwnHistory
from longtake.train.levels import block_staircase, equal_levels, independent_levels
from longtake.train.lot import Lot
from longtake.train.sample import Sample, blocks_of
from longtake.train.video import Video, VideoConfig, VideoRecipe

CARD = Card(name="pocket-causal", plan="blocks", options={})


@dataclass(frozen=True)
class CausalConfig(VideoConfig):
    """teacher, staircase: shares of the steps; the rest has one level for all frames. inside: share of windows that
    begin inside a clip, the others begin with it, as every video does. own: of the steps of teacher forcing, see
    `history.OwnHistory`."""

    teacher: float = 0.6
    staircase: float = 0.3
    inside: float = 0.3
    own: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.teacher, self.staircase) < 0 or self.teacher + self.staircase > 1 + 1e-9:
            raise ValueError(f"shares {self.teacher} + {self.staircase} must lie between 0 and 1")


class Causal:
    """Draws what a block-causal network learns from."""

    def __init__(self, config: CausalConfig, video: Video):
        self.config, self.video, self.net = config, video, video.module
        self.own = read_table(OwnHistory, config.own, "causal.own")
        if not self.net.config.causal:
            raise ValueError("the network sees all frames at once: set causal = true (and block) in its table")

    def __call__(self, step: int, rng: torch.Generator) -> Sample:
        """The sample of a step."""
        lot, draw = self.video.lot(step, rng), float(torch.rand((), generator=rng))
        if draw < self.config.teacher:
            return self.teacher(self.windows(lot, 2 * lot.cost, rng), rng)
        windows = self.windows(lot, lot.cost, rng)
        count, frames, blocks = len(windows.video), lot.frames, blocks_of(self.net, lot.frames) or []
        if draw < self.config.teacher + self.config.staircase:
            return replace(windows, level=block_staircase(rng, count, blocks[-1] + 1, self.config.shift)[:, blocks])
        return replace(windows, level=equal_levels(rng, count, frames, self.config.shift))

    def teacher(self, windows: Sample, rng: torch.Generator) -> Sample:
        """Every block at a level of its own, behind clean frames, or behind the network's own version of them."""
        blocks = blocks_of(self.net, windows.frames) or []
        level = independent_levels(rng, len(windows.video), blocks[-1] + 1, self.config.shift)[:, blocks]
        known = torch.ones_like(level, dtype=torch.bool)
        before = self.own.version(self.video, replace(windows, known=known), rng)
        return replace(windows, level=level, before=before)

    def windows(self, lot: Lot, cost: int, rng: torch.Generator) -> Sample:
        """Windows at random, as many as the step can afford; levels are still to come."""
        chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
        data, frames, videos, sprites, told = self.video.data, lot.frames, [], [], []
        for _ in range(self.video.draws(cost)):
            number = chance.choice(lot.numbers)
            inside = chance.random() < self.config.inside
            start = chance.randint(0, data.longest(number) - frames) if inside else 0
            video, sprite = data.window(number, start, frames)
            videos.append(video)
            sprites.append(sprite)
            told.append(self.video.captions(number, start, frames, chance))
        video = torch.stack(videos)
        noise = torch.randn(video.shape, generator=rng)
        return Sample(video, noise, torch.zeros(len(video), frames), torch.stack(sprites), told)


def make(config: Mapping[str, Any], out: Path) -> VideoRecipe:
    """The recipe of a run's table and folder."""
    settings = read_table(CausalConfig, config, "causal")
    video = Video(settings, out, card_of(CARD, settings.card, "causal.card"))
    return VideoRecipe(video, Causal(settings, video))
