"""Rollouts in tests: the whole video with a snapshot after every window, and the rest of it from one of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longtake.engine.events import Frames, WindowDone
from longtake.engine.rollout import Rollout


class Snapshot(NamedTuple):
    """What a resume needs. frames: output frames that were shown before."""

    frames: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def recorded(run: Rollout) -> tuple[Tensor, list[Snapshot]]:
    """Generate a video (B, 3, T, H, W) and take a snapshot after every window; frames come in order, without a gap."""
    parts, snapshots = [], []
    for event in run.run():
        if isinstance(event, Frames):
            assert event.first == sum(part.shape[2] for part in parts)
            parts.append(event.video)
        if isinstance(event, WindowDone):
            tensors, facts = run.state()
            snapshots.append(Snapshot(event.frames, {name: tensor.clone() for name, tensor in tensors.items()}, facts))
    return torch.cat(parts, 2), snapshots


def resumed(run: Rollout, snapshot: Snapshot) -> Tensor:
    """Load a snapshot into a new rollout and generate the rest of the video."""
    run.load(snapshot.tensors, snapshot.facts)
    return torch.cat([event.video for event in run.run() if isinstance(event, Frames)], 2)
