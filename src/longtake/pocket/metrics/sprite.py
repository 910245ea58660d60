"""The sprite of a segment, found once for all metrics of the pocket world."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from longtake.metrics.segment import Segment
from longtake.pocket.judge import Trajectory, find_sprite, follow_sprite

SEEN = 0.3  # share of the frames that must show a sprite for it to be judged
LOST = 1.0  # drift of a sprite that is no longer there


def every_second(segment: Segment) -> Tensor:
    """Return every second frame (V, 3, S, S) as float: the frames on which a sprite is looked for."""
    return torch.cat(list(segment.floats(2)))


def mask(segment: Segment) -> Tensor:
    """Return the pixels of the sprite (V, S, S) in every second frame."""
    return find_sprite(segment.once(every_second))[1]


def track(segment: Segment) -> Trajectory | None:
    """Return the sprite's track, or None if fewer than three frames in ten show one."""
    found = follow_sprite(segment.once(mask), 2)
    return found if len(found.frames) >= SEEN * len(segment.once(mask)) else None


def erode(mask: Tensor) -> Tensor:
    """Return the inside of masks (V, S, S), without their rim, as (V, 1, S, S)."""
    return 1 - max_pool2d(1 - mask.float()[:, None], 3, 1, 1)


def clear_of(mask: Tensor) -> Tensor:
    """Return where frames are clear of the sprite and its outline, (V, 1, S, S)."""
    return 1 - max_pool2d(mask.float()[:, None], 7, 1, 3)
