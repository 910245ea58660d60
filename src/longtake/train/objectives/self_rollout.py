"""Self-rollout: context frames denoised by the network itself, against the drift of long rollouts (Self-Forcing).

A rollout continues from frames that the network generated, not from true ones. With some probability training does so
too: the true context frames are noised to a sigma and denoised by the network in a few steps, so that they carry its
errors but still belong to the clip that the next frames are taken from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.train.objectives.velocity import Sample, redenoised


@dataclass(frozen=True)
class SelfRollout:
    """Settings of self-rollout.

    self_rollout_share: share of the steps whose context frames are the network's own.
    max_sigma: largest sigma to which the true frames are noised; each video draws one below it.
    num_inference_steps: model calls that denoise them.
    """

    self_rollout_share: float = 0.0
    max_sigma: float = 0.7
    num_inference_steps: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.self_rollout_share <= 1 or not 0 < self.max_sigma <= 1 or self.num_inference_steps < 1:
            raise ValueError(
                "self_rollout_share and max_sigma are numbers from 0 to 1, and num_inference_steps is at least 1"
            )

    def videos(self, velocity: Callable[[Sample], Tensor], sample: Sample, generator: torch.Generator) -> Tensor:
        """Return the videos of a sample (B, C, F, h, w) with their context frames, in some steps, denoised by the network."""
        draw = float(torch.rand((), generator=generator))
        sigma = torch.rand(len(sample.video), generator=generator) * self.max_sigma
        if draw >= self.self_rollout_share or sample.is_context is None or not sample.is_context.any():
            return sample.video
        steps = torch.linspace(1, 0, self.num_inference_steps + 1)
        own = redenoised(velocity, sample, sigma[:, None] * steps)
        return torch.where(sample.is_context[:, None, :, None, None], own, sample.video)
