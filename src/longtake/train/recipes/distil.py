"""Recipe `distil`: a network learns to predict at once what guidance mixes from two branches (Meng et al. 2023, stage one).

The teacher is the network as it was at the start, frozen. Its guided velocity, at a fixed guidance g, is the target:

    v = v(no caption) + g (v(caption) - v(no caption))

The student then needs guidance 1, that is one branch, which halves the cost of every call; how samples are drawn is a
recipe of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models.wan import WanTransformer
from longtake.train.config import read_table
from longtake.train.place import at, place
from longtake.train.recipes import causal, flow, forcing, i2v
from longtake.train.sample import Sample, guided
from longtake.train.shards import Loss
from longtake.train.video import Video, VideoRecipe

SAMPLERS = {"flow": flow.make, "forcing": forcing.make, "causal": causal.make, "i2v": i2v.make}


@dataclass(frozen=True)
class DistilConfig:
    """recipe: how samples are drawn; settings: its table, with `init`, the model to distil. guidance: that is built in."""

    recipe: str = "forcing"
    guidance: float = 3.5
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.recipe not in SAMPLERS:
            raise ValueError(f"recipe is {self.recipe!r}: it is one of {', '.join(SAMPLERS)}")
        if not self.settings.get("init"):
            raise ValueError("there is nothing to distil: say `init`, a model or a run, in the table `settings`")


@dataclass(frozen=True)
class Distil:
    """A `Recipe`: the student of `inner` follows the guided teacher."""

    inner: VideoRecipe
    teacher: WanTransformer
    guidance: float

    @property
    def module(self) -> WanTransformer:
        """See `Recipe`."""
        return self.inner.module

    @property
    def video(self) -> Video:
        """The student and what it learns from."""
        return self.inner.video

    @property
    def uniform(self) -> bool:
        """See `Recipe`."""
        return self.inner.uniform

    def loss(self, step: int, rng: torch.Generator) -> Loss:
        """See `Recipe`."""
        sample = self.inner.draw(step, rng).to(at(self.module))
        return self.video.loss(sample, self.guided(sample))

    @torch.no_grad()
    def guided(self, sample: Sample) -> Tensor:
        """The teacher's velocity (B C F h w) under guidance."""
        return guided(lambda one: self.video.velocity(one, self.teacher), sample, self.guidance)

    def dataset(self) -> dict[str, Any]:
        """See `HasData`."""
        return self.inner.dataset()

    def frozen(self, init: bool = True) -> Mapping[str, Sequence[Path]]:
        """See `ReadsFrozen`: the teacher is what the student started from."""
        return self.inner.frozen(init=True)

    def describe(self, step: int, rng: torch.Generator) -> str:
        """See `DescribesBatch`."""
        return self.inner.describe(step, rng)

    def scores(self) -> Sequence[str]:
        """See `NamesScores`."""
        return self.inner.scores()

    def check(self, step: int, out: Path) -> dict[str, float]:
        """See `Recipe`."""
        return self.inner.check(step, out)

    def finish(self, out: Path) -> None:
        """See `Recipe`."""
        self.inner.finish(out)


def make(config: Mapping[str, Any], out: Path) -> Distil:
    """The recipe of a run's table and folder. The finished model asks for guidance 1 unless its card says otherwise."""
    settings = read_table(DistilConfig, config, "distil")
    card = {"guidance": 1.0, **settings.settings.get("card", {})}
    inner = SAMPLERS[settings.recipe]({**settings.settings, "card": card}, out)
    teacher = copy.deepcopy(inner.module).eval().requires_grad_(False).to(place())
    return Distil(inner, teacher, settings.guidance)
