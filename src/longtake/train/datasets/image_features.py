"""CLIP features of the first frame of a clip, for image-to-video networks with an image encoder (Wan 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from longtake.models.checkpoints import loading as weights
from longtake.models.encoders import clip_vision as clip
from longtake.models.encoders.clip_vision import ClipConfig, ClipVision
from longtake.pocket import render
from longtake.train.datasets.footage import EncodedVariant, Footage
from longtake.train.datasets.pocket import PocketLatents
from longtake.train.run.device import device_of, process_device

KEPT = 4096  # pocket clips whose features stay in memory

FrameFeatures = Callable[[Sequence[int]], Tensor]  # numbers of clips -> CLIP tokens of their first frames (B, L, D)


@dataclass(frozen=True)
class FrameEncoder:
    """An image encoder and its folder."""

    net: ClipVision
    folder: Path

    @staticmethod
    def of(image_dim: int | None, folder: Path | None) -> FrameEncoder | None:
        """Load the encoder of a folder, if the network takes image features (of `image_dim` channels). ValueError if the folder is missing."""
        if image_dim is None:
            return None
        if folder is None or not folder.is_dir():
            raise ValueError(
                "this network is conditioned on CLIP features of an image: set `image_encoder` to the folder of its encoder"
            )
        return FrameEncoder(clip.load(folder, ClipConfig.read(folder)).to(process_device()), folder)

    def features_of(self, data: PocketLatents | Footage) -> FrameFeatures:
        """Return a function that encodes first frames of clips, each once; it keeps them in memory or in the clip cache."""
        if isinstance(data, Footage):
            name = f"image features {weights.digest(weights.files(self.folder))}"
            encode = lambda frames: self._encode(frames[:, :, 0])
            variant = EncodedVariant(lambda n: data.frames(n, 1), lambda n: name, encode)
            return lambda numbers: torch.stack([data.latents(number, variant) for number in numbers])

        @lru_cache(KEPT)
        def one(number: int) -> Tensor:
            return self._encode(render(data.clips[number], 0, 1).frames * 2 - 1)[0].half()

        return lambda numbers: torch.stack([one(number) for number in numbers]).float()

    def _encode(self, frames: Tensor) -> Tensor:
        """Encode frames (B, 3, H, W) to tokens (B, L, D), both on the CPU."""
        return self.net.encode_image(frames.to(device_of(self.net))).cpu()
