"""The recipe that all recipes for a Wan video network return: a rule that draws samples, with the shared loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longtake.train.interfaces import Loss, Result
from longtake.train.objectives.velocity import Sample
from longtake.train.video.training import VideoTraining


@dataclass(frozen=True)
class VideoRecipe:
    """A `Recipe` for a video network. draw: (step, generator) -> the sample of a step.

    uniform: whether all samples make the same calls of the network, see `Recipe`.
    """

    video: VideoTraining
    draw: Callable[[int, torch.Generator], Sample]
    uniform: bool = False

    @property
    def module(self) -> Any:
        """The network in training."""
        return self.video.module

    def loss(self, step: int, generator: torch.Generator) -> Loss:
        """Compute the loss of the sample of a step."""
        return self.video.loss(self.draw(step, generator))

    def dataset(self) -> dict[str, Any]:
        """Return facts about the clips."""
        return self.video.data.facts()

    def frozen(self, init: bool = False) -> Mapping[str, Sequence[Path]]:
        """Return the files of text encoder, VAE and image encoder; with init, also those of the initial network."""
        return self.video.frozen(init)

    def describe(self, step: int, generator: torch.Generator) -> str:
        """Describe a batch by the length of its videos and their captions."""
        sample = self.draw(step, generator)
        videos = (" then ".join(repr(words) for _, words in captions) for captions in sample.captions)
        return f"{sample.frames} latents each; {'; '.join(videos)}"

    def scores(self) -> Sequence[str]:
        """Return the names of the scores of `evaluate`."""
        return self.video.scores()

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Generate a few videos and score them; measure the loss on held-out clips, if there are some."""
        return {**self.video.evaluate(step, out), **self.video.validation(self.draw)}

    def finish(self, out: Path) -> None:
        """Write the folder `model`."""
        self.video.finish(out)

    def result(self, out: Path) -> Result | None:
        """Return the model, if there is a VAE for it."""
        return self.video.result(out)

    def inputs(self, out: Path) -> Sequence[str]:
        """Return a prompt, and the file of a first frame for a network that needs one."""
        return self.video.inputs(out)
