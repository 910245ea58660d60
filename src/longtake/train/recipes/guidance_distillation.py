"""Recipe `guidance_distillation`: a network learns to predict guided velocities in one call (Meng et al. 2023, stage one).

The teacher is the network as it was at the start, frozen. Its guided velocity, at a fixed guidance scale g, is the target:

    v = v(no caption) + g (v(caption) - v(no caption))

The student then needs guidance scale 1, that is one branch, which halves the cost of every step. Another recipe draws the
samples.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.train.inner_recipe import make_inner
from longtake.train.interfaces import Loss, Result
from longtake.train.objectives.velocity import Sample, guided_velocity
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.run.device import device_of, process_device
from longtake.train.toml_config import read_table
from longtake.train.video.recipe import VideoRecipe
from longtake.train.video.training import VideoTraining

TINY_LR = 3e-3


@dataclass(frozen=True)
class GuidanceDistillationConfig:
    """Settings of guidance distillation.

    recipe: draws the samples; settings: its table, with `init`, the model to distil. guidance: scale that is built in.
    """

    recipe: str = "diffusion_forcing"
    guidance: float = 3.5
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.settings.get("init"):
            raise ValueError("there is no network to distil: set `init`, a model or a run, in the table `settings`")


CONFIG = GuidanceDistillationConfig


@dataclass(frozen=True)
class GuidanceDistillation:
    """A `Recipe`: the network of `inner`, the student, follows the guided teacher."""

    inner: VideoRecipe
    teacher: Any
    guidance: float

    @property
    def module(self) -> Any:
        """The student."""
        return self.inner.module

    @property
    def video(self) -> VideoTraining:
        """The student with its clips."""
        return self.inner.video

    @property
    def uniform(self) -> bool:
        """Whether all batches make the same calls of the network."""
        return self.inner.uniform

    def loss(self, step: int, generator: torch.Generator) -> Loss:
        """Compute the squared error between the student's velocity and the teacher's guided one."""
        sample = self.inner.draw(step, generator).to(device_of(self.module))
        return self.video.loss(sample, self.target(sample))

    @torch.no_grad()
    def target(self, sample: Sample) -> Tensor:
        """Predict the teacher's velocity (B, C, F, h, w) with guidance."""
        return guided_velocity(lambda one: self.video.velocity(one, self.teacher), sample, self.guidance)

    def dataset(self) -> dict[str, Any]:
        """Return facts about the clips."""
        return self.inner.dataset()

    def frozen(self, init: bool = True) -> Mapping[str, Sequence[Path]]:
        """Return the files of the frozen parts, the teacher too: it is the network that the student started from."""
        return self.inner.frozen(init=True)

    def describe(self, step: int, generator: torch.Generator) -> str:
        """Describe a batch by the length of its videos and their captions."""
        return self.inner.describe(step, generator)

    def scores(self) -> Sequence[str]:
        """Return the names of the scores of `evaluate`."""
        return self.inner.scores()

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Generate a few videos and score them."""
        return self.inner.evaluate(step, out)

    def finish(self, out: Path) -> None:
        """Write the folder `model`."""
        self.inner.finish(out)

    def result(self, out: Path) -> Result | None:
        """Return the model."""
        return self.inner.result(out)

    def inputs(self, out: Path) -> Sequence[str]:
        """Return a prompt, and other inputs, that suit the network."""
        return self.inner.inputs(out)


def make(config: Mapping[str, Any], out: Path, recipes: Mapping[str, RecipeEntry]) -> GuidanceDistillation:
    """Make the recipe from its table and the run's folder. The finished model's card has guidance 1 by default."""
    settings = read_table(CONFIG, config, "guidance_distillation")
    card = {"guidance_scale": 1.0, **settings.settings.get("card", {})}
    table = {**settings.settings, "card": card}
    inner = make_inner(recipes, settings.recipe, table, out, "guidance_distillation", lambda entry: entry.samples)
    teacher = copy.deepcopy(inner.module).eval().requires_grad_(False).to(process_device())
    return GuidanceDistillation(inner, teacher, settings.guidance)


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    return {"recipe": "flow_matching", "guidance": 20.0, "settings": {**parts.video, "init": str(parts.init)}}
