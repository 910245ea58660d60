"""Recipe `forcing`: diffusion forcing (Chen et al. 2024, SkyReels-V2) of a Wan transformer on pocket clips.

Every latent frame has its own noise level; the target is the velocity noise - video. Which patterns of levels there are,
and how often, is the mixture (see `levels.Mixture`). A window's caption tells the facts of its first new frame, so a
switch that falls on the end of the history teaches how a new prompt takes over.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.train.config import read_table
from longtake.train.export import Card, card_of
from longtake.train.history import OwnHistory
from longtake.train.levels import Mixture, Pattern, draw_history, draw_levels
from longtake.train.lot import Lot
from longtake.train.sample import Sample, Told
from longtake.train.video import Video, VideoConfig, VideoRecipe


@dataclass(frozen=True)
class ForcingConfig(VideoConfig):
    """mixture: shares of the patterns, see `levels.Mixture`. own: see `history.OwnHistory`."""

    mixture: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)


class Forcing:
    """Draws windows whose frames have levels of their own."""

    def __init__(self, config: ForcingConfig, video: Video):
        self.config, self.video = config, video
        self.mixture = read_table(Mixture, config.mixture, "forcing.mixture")
        self.own = read_table(OwnHistory, config.own, "forcing.own")

    def __call__(self, step: int, rng: torch.Generator) -> Sample:
        """The sample of a step."""
        sample = self.windows(self.video.lot(step, rng), rng)
        return replace(sample, video=self.own.version(self.video, sample, rng))

    def windows(self, lot: Lot, rng: torch.Generator) -> Sample:
        """Windows at random, with levels and captions."""
        count, frames = self.video.draws(lot.cost), lot.frames
        pattern = self.mixture.patterns(rng, count)
        history = draw_history(rng, count, frames)
        level = draw_levels(rng, pattern, history, frames, self.mixture.shift)
        chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
        windows = [self.window(Pattern(int(p)), int(h), lot, chance) for p, h in zip(pattern, history)]
        video, sprite, told = zip(*windows)
        clean = torch.stack(video)
        noise = torch.randn(clean.shape, generator=rng)
        known = (pattern == Pattern.HISTORY)[:, None] & (torch.arange(frames) < history[:, None])
        return Sample(clean, noise, level, torch.stack(sprite), list(told), known)

    def window(self, pattern: Pattern, history: int, lot: Lot, chance: random.Random) -> tuple[Tensor, Tensor, Told]:
        """One window and its caption: anywhere in a clip with history, in a steady clip without; equal levels begin
        with the clip."""
        data = self.video.data
        number = chance.choice(lot.numbers if pattern == Pattern.HISTORY else lot.steady)
        change, last = data.change(number), data.longest(number) - lot.frames
        start, first_new = (0 if pattern == Pattern.EQUAL else chance.randint(0, last)), 0
        if pattern == Pattern.HISTORY:
            if change is not None and chance.random() < 0.75:
                start = min(max(change - history, 0), last)
            first_new = start + history
        words = "" if chance.random() < self.config.drop else data.caption(number, first_new, chance)
        told = [(0, words)]
        if words and pattern != Pattern.HISTORY and change is not None:
            told = list(data.told(number, start, lot.frames, chance))
        return *data.window(number, start, lot.frames), told


def make(config: Mapping[str, Any], out: Path) -> VideoRecipe:
    """The recipe of a run's table and folder."""
    settings = read_table(ForcingConfig, config, "forcing")
    video = Video(settings, out, card_of(Card(), settings.card, "forcing.card"))
    drawn = Forcing(settings, video)
    return VideoRecipe(video, drawn, uniform=drawn.own.share == 0)
