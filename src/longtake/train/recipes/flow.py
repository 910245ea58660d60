"""Recipe `flow`: full-sequence flow matching, one noise level for all frames of a video (Wan, SkyReels-V2 before forcing)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from longtake.train.config import read_table
from longtake.train.export import Card, card_of
from longtake.train.levels import logit_normal, shifted_levels
from longtake.train.lot import Lot
from longtake.train.sample import Sample
from longtake.train.video import Video, VideoConfig, VideoRecipe

CARD = Card(plan="clip", kind="t2v", options={})


@dataclass(frozen=True)
class FlowConfig(VideoConfig):
    """levels: "shifted" draws them evenly, "logit-normal" with this mean and deviation of log(s / (1 - s)); both are then
    moved towards noise by `shift` (Esser et al. 2024)."""

    levels: Literal["shifted", "logit-normal"] = "shifted"
    mean: float = 0.0
    deviation: float = 1.0

    def draw_levels(self, rng: torch.Generator, count: int, frames: int) -> Tensor:
        """One level per video (B F)."""
        if self.levels == "shifted":
            level = shifted_levels(rng, count, self.shift)
        else:
            level = logit_normal(rng, count, self.mean, self.deviation, self.shift)
        return level[:, None].expand(count, frames)


def beginnings(config: FlowConfig, video: Video, lot: Lot, rng: torch.Generator) -> tuple[Sample, list[int]]:
    """The first latents of clips that do not change in them, and the numbers of the clips."""
    chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
    numbers, frames = [chance.choice(lot.steady) for _ in range(video.draws(lot.cost))], lot.frames
    clips, sprite = zip(*(video.data.window(n, 0, frames) for n in numbers))
    told = [video.captions(n, 0, frames, chance) for n in numbers]
    level, clean = config.draw_levels(rng, len(numbers), frames), torch.stack(clips)
    return Sample(clean, torch.randn(clean.shape, generator=rng), level, torch.stack(sprite), told), numbers


def make(config: Mapping[str, Any], out: Path) -> VideoRecipe:
    """The recipe of a run's table and folder."""
    settings = read_table(FlowConfig, config, "flow")
    video = Video(settings, out, card_of(CARD, settings.card, "flow.card"))

    def draw(step: int, rng: torch.Generator) -> Sample:
        return beginnings(settings, video, video.lot(step, rng), rng)[0]

    return VideoRecipe(video, draw, uniform=True)
