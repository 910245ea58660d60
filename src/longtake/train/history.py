"""History as the network itself would have made it, against the drift of long rollouts.

A rollout goes on from frames that the network made, not from true ones. With some probability training does so too: the
true frames are noised to a level and made clean again by the network in a few calls, so that they carry its own errors
but still belong to the clip that the next frames are taken from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from longtake.train.sample import Sample, remade

if TYPE_CHECKING:
    from longtake.train.video import Video


@dataclass(frozen=True)
class OwnHistory:
    """share: of the steps whose history is the network's own. depth: the highest level to which the true frames are
    noised; each video draws one below it. calls: model calls that make them clean again."""

    share: float = 0.0
    depth: float = 0.7
    calls: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 < self.depth <= 1 or self.calls < 1:
            raise ValueError("share and depth are numbers from 0 to 1, calls is at least 1")

    def version(self, video: Video, sample: Sample, rng: torch.Generator) -> Tensor:
        """The videos of a sample (B C F h w), their known frames perhaps the network's own."""
        draw, depth = float(torch.rand((), generator=rng)), torch.rand(len(sample.video), generator=rng) * self.depth
        if draw >= self.share or sample.known is None or not sample.known.any():
            return sample.video
        own = remade(video.velocity, sample, depth[:, None] * torch.linspace(1, 0, self.calls + 1))
        return torch.where(sample.known[:, None, :, None, None], own, sample.video)
