"""Samples of whole clips, for recipes that train on top of the recipe `multi_resolution`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from longtake.core.errors import ConfigError
from longtake.core.noise import mix
from longtake.train.interfaces import Loss
from longtake.train.objectives.velocity import Sample
from longtake.train.run.device import device_of


class WholeClips:
    """A recipe `multi_resolution` on clips of one shape, with all their tokens: it draws samples of whole videos.

    recipe: a `recipes.multi_resolution.MultiResolution`. ConfigError if the config asks for several shapes or drops tokens.
    """

    uniform = True

    def __init__(self, recipe: Any):
        if len(recipe.buckets) > 1 or recipe.config.batch.max_token_dropout:
            raise ConfigError(
                "samples of whole clips have one shape: set one of seconds, one of sizes, and batch.max_token_dropout = 0 in "
                "settings"
            )
        self.recipe, self.module, self.video = recipe, recipe.module, self
        self.vae_folder, self.frozen = recipe.vae_folder, recipe.frozen
        self.evaluate, self.finish, self.scores = recipe.evaluate, recipe.finish, recipe.scores
        self.dataset, self.describe, self.inputs = recipe.dataset, recipe.describe, recipe.inputs

    def draw(self, step: int, generator: torch.Generator) -> Sample:
        """Draw the sample of a step; all tokens of a frame have its sigma."""
        batch, shape = self.recipe.draw(step, generator), self.recipe.buckets[0].shape
        video, noise = (x.mT.unflatten(2, shape) for x in (batch.video, batch.noise))
        sigma, context, sprite = (x.unflatten(1, shape) for x in (batch.sigma, batch.is_context, batch.sprite))
        captions = [[(0, words)] for words in batch.captions]
        return Sample(video, noise, sigma[..., 0, 0], sprite, captions, context[..., 0, 0])

    def velocity(self, sample: Sample) -> Tensor:
        """Predict the velocity (B, C, F, h, w) of a sample, on the sample's device."""
        device, recipe = device_of(self.module), self.recipe
        text = recipe.parts.text.encode([words for ((_, words),) in sample.captions]).to(device)
        noisy, sigma = mix(sample.video, sample.noise, sample.sigma).to(device), sample.sigma.to(device)
        return recipe.module(noisy, sigma, text, fps=recipe.fps).to(sample.video.device)

    def loss(self, step: int, generator: torch.Generator) -> Loss:
        """Compute the loss of the recipe."""
        return self.recipe.loss(step, generator)
