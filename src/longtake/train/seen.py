"""What CLIP sees of the first frame of a clip, for image-to-video networks that are shown it (Wan 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from longtake.models import clip, weights
from longtake.models.clip import ClipConfig, ClipVision
from longtake.models.wan import WanConfig
from longtake.train.data import Latents
from longtake.train.footage import Footage, Version
from longtake.train.place import at, place
from longtake.world import render

KEPT = 4096  # clips of the pocket world whose tokens stay in memory

Seen = Callable[[Sequence[int]], Tensor]  # numbers of clips -> tokens of their first frames (B, L, D)


@dataclass(frozen=True)
class Eyes:
    """An image encoder and its folder."""

    net: ClipVision
    folder: Path

    @staticmethod
    def of(config: WanConfig, folder: Path | None) -> Eyes | None:
        """Those in a folder, if the network embeds what they see. ValueError if they are not there."""
        if config.image_dim is None:
            return None
        if folder is None or not folder.is_dir():
            raise ValueError(
                "this network is shown images through CLIP: give `image_encoder`, the folder of its encoder"
            )
        return Eyes(clip.load(folder, ClipConfig.read(folder)).to(place()), folder)

    def on(self, data: Latents | Footage) -> Seen:
        """What they see of clips; each is looked at once, and kept in memory or in the store of the footage."""
        if isinstance(data, Footage):
            name = f"seen {weights.digest(weights.files(self.folder))}"
            version = Version(lambda n: data.frames(n, 1), lambda n: name, lambda frames: self._see(frames[:, :, 0]))
            return lambda numbers: torch.stack([data.latents(number, version) for number in numbers])

        @lru_cache(KEPT)
        def one(number: int) -> Tensor:
            return self._see(render(data.clips[number], 0, 1).frames * 2 - 1)[0].half()

        return lambda numbers: torch.stack([one(number) for number in numbers]).float()

    def _see(self, frames: Tensor) -> Tensor:
        """Tokens of frames (B 3 H W), both on the CPU."""
        return self.net.see(frames.to(at(self.net))).cpu()
