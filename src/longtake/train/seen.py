"""What CLIP sees of the first frame of a clip, for image-to-video networks that are shown it (Wan 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from longtake.models import clip, weights
from longtake.models.clip import ClipConfig, ClipVision
from longtake.models.wan import WanConfig
from longtake.train.data import Latents
from longtake.train.footage import Footage, Version
from longtake.world import render

KEPT = 4096  # clips of the pocket world whose tokens stay in memory

Seen = Callable[[Sequence[int]], Tensor]  # numbers of clips -> tokens of their first frames (B, L, D)


def eyes_of(net: WanConfig, folder: Path | None) -> ClipVision | None:
    """The image encoder in a folder, if the network embeds what it sees. ValueError if there is none."""
    if net.image_dim is None:
        return None
    if folder is None or not folder.is_dir():
        raise ValueError("this network is shown images through CLIP: give `image_encoder`, the folder of its encoder")
    return clip.load(folder, ClipConfig.read(folder))


def seen_of(data: Latents | Footage, eyes: ClipVision, folder: Path) -> Seen:
    """What the eyes in `folder` see of clips; each is looked at once, and kept in memory or in the store of the footage."""
    if isinstance(data, Footage):
        found, name = data, f"seen {weights.digest(weights.files(folder))}"
        version = Version(
            lambda number: found.frames(number, 1), lambda number: name, lambda frames: eyes.see(frames[:, :, 0])
        )
        return lambda numbers: torch.stack([found.latents(number, version) for number in numbers])
    clips = data.clips

    @lru_cache(KEPT)
    def one(number: int) -> Tensor:
        return eyes.see(render(clips[number], 0, 1).frames * 2 - 1)[0].half()

    return lambda numbers: torch.stack([one(number) for number in numbers]).float()
