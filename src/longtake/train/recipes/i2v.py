"""Recipe `i2v`: image to video in the structure of Wan: a mask and latents of the first frames stand beside x.

All frames share one noise level. The new input channels of a network that starts from another one begin at zero, so
that training begins with what it could do. There is no CLIP: the image is told beside x alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longtake.models import wan_codec
from longtake.noise import mix
from longtake.train.export import Card
from longtake.train.levels import equal_levels
from longtake.train.loop import ranks
from longtake.train.told import Givens, Tolds, fill_told
from longtake.train.video import Told, Video, VideoConfig

CARD = Card(
    name="pocket-i2v", kind="i2v", plan="crossclip", options={"overlap": 1},
    what="brings a picture of its world to life; trained here",
)  # fmt: skip


@dataclass(frozen=True)
class I2vConfig(VideoConfig):
    """given: how many frames are given, see `told.Givens`."""

    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Beginnings of clips (B C F h w), their sprite (B F h w), captions, and what stands beside x (B M F h w)."""

    video: Tensor
    sprite: Tensor
    told: list[Told]
    beside: Tensor


class I2vRecipe:
    """Velocity matching at one level per video, told of its beginning."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = I2vConfig(**config)
        self.video = Video(self.config, out, replace(CARD, **self.config.card))
        self.net, channels = self.video.module, self.video.data.latents.shape[1]
        givens = Givens(**self.config.given)
        wanted = 2 * channels + givens.stride
        if self.net.config.in_channels != wanted:
            raise ValueError(f"a network that is told of frames beside x takes {wanted} channels: set in_channels")
        self.tolds = self._tolds(out / "told", givens)

    @property
    def module(self) -> nn.Module:
        """See `Recipe`."""
        return self.net

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """Weighted mean square of the velocity error, known frames included, as Wan is trained."""
        frames = self.config.length(step, rng)
        batch = self.batch(frames, rng)
        level = equal_levels(rng, len(batch.video), frames, self.config.shift)
        noise = torch.randn(batch.video.shape, generator=rng)
        seen = torch.cat([mix(batch.video, noise, level), batch.beside], 1)
        velocity = self.net(seen, level, **self.video.told(batch.told, frames))
        return self.video.error(velocity, noise - batch.video, batch.sprite, level)

    def batch(self, frames: int, rng: torch.Generator) -> Batch:
        """The first `frames` latents of clips that do not change before their end."""
        chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
        numbers = [chance.choice(self.video.steady) for _ in range(max(1, self.config.frames // frames))]
        video, sprite = zip(*(self.video.data.window(n, 0, frames) for n in numbers))
        told = [self.video.captions(n, 0, frames, chance) for n in numbers]
        return Batch(torch.stack(video), torch.stack(sprite), told, self.tolds.beside(numbers, frames))

    def check(self, step: int, out: Path) -> dict[str, float]:
        """See `Video.check`; every video begins with the true first frame."""
        return self.video.check(step, out)

    def finish(self, out: Path) -> None:
        """See `Video.finish`."""
        self.video.finish(out)

    def _tolds(self, folder: Path, givens: Givens) -> Tolds:
        if self.video.codec_folder is None:
            raise ValueError("frames beside x are encoded for training: give the folder of a codec")
        codec = wan_codec.load(self.video.codec_folder, torch.float32)
        fill_told(folder, self.video.data.source, len(self.video.data), givens, codec.encode, ranks())
        if ranks()[1] > 1:
            dist.barrier()
        return Tolds(folder, givens)
