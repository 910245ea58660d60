"""The validation loss of a video network: its error on clips that it does not train on, at fixed sigmas and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from longtake.train.interfaces import Loss
from longtake.train.objectives.velocity import Sample

HELD_OUT = -1  # in place of a step: draw from the clips that are held out
SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)  # one of each fifth of the noise levels
BATCHES = 8  # at most, since every one is computed at every sigma
SEED = 2**40  # of the first batch
NAMES = ("val_loss", *(f"val_loss_{sigma:g}" for sigma in SIGMAS))

Draw = Callable[[int, torch.Generator], Sample]


@torch.no_grad()
def validation_losses(clips: int, draw: Draw, loss: Callable[[Sample], Loss]) -> dict[str, float]:
    """Return the loss on held-out clips at each sigma, and its mean as val_loss: the same batches and noise every time.

    clips: how many are held out. draw: a sample of the recipe. Context frames keep their sigmas; all others have the one
    that is measured.
    """
    sums = torch.zeros(len(SIGMAS), 2, dtype=torch.float64)  # of errors and of weights
    for number in range(min(BATCHES, clips)):
        sample = draw(HELD_OUT, torch.Generator().manual_seed(SEED + number))
        for row, sigma in enumerate(SIGMAS):
            level = torch.full_like(sample.sigma, sigma)
            if sample.is_context is not None:
                level = torch.where(sample.is_context, sample.sigma, level)
            total, weight = loss(replace(sample, sigma=level))
            sums[row] += torch.tensor([float(total), float(weight)], dtype=torch.float64)
    losses = (sums[:, 0] / sums[:, 1]).tolist()
    return dict(zip(NAMES, [sum(losses) / len(losses), *losses]))
