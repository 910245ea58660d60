"""Recipe `codec`: a Wan codec learns pocket clips, with more weight on the sprite.

The loss of frame and reconstruction is an L1 and a square weighted by 1 + 5 * sprite, an L1 of the gradients, which keeps
edges sharp, and a little of the divergence of the posterior from a unit normal. A plain loss learns the scenery and
loses the sprite's shape.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.eval.judge import judge, score
from longtake.models import wan_codec, weights
from longtake.models.wan_codec import WanCodec, WanCodecConfig
from longtake.train.config import read_table
from longtake.train.data import Source
from longtake.world import make_clip, render

SMALL: Mapping[str, Any] = dict(
    base_dim=16, decoder_base_dim=32, z_dim=16, dim_mult=(1, 2, 4), num_res_blocks=1, temperal_downsample=(True, True),
    in_channels=12, out_channels=12, patch_size=2, latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16,
)  # fmt: skip


@dataclass(frozen=True)
class CodecConfig:
    """What to train on. start: folder of a codec to go on from; network: a WanCodecConfig to begin anew with.

    frames: per step, shared out over clips, `most` at most. lengths: of the clips, one is drawn per step (1 + 4 k each).
    sprite, gradient, kl: weights in the loss. switch: share of clips whose facts change. judged: clips of a check.
    measured: clips over which the latents are normalised.
    """

    start: str = ""
    network: Mapping[str, Any] = field(default_factory=lambda: SMALL)
    frames: int = 60
    most: int = 16
    lengths: Sequence[int] = (1, 5, 9, 9, 13)
    sprite: float = 5.0
    gradient: float = 0.4
    kl: float = 1e-4
    switch: float = 0.25
    judged: int = 12
    measured: int = 48


class CodecRecipe:
    """Reconstruction of short pieces of pocket clips."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = read_table(CodecConfig, config, "codec")
        self.module = load_codec(Path(self.config.start)) if self.config.start else new_codec(self.config.network)
        self.module.train()

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """The loss of one batch; frames are compared unclamped, since a clamp has no gradient where it is needed."""
        frames, sprite = self.batch(rng)
        mean, log_variance = self.module.moments(frames)
        noise = torch.randn(mean.shape, generator=rng)
        sample = mean + (0.5 * log_variance.clamp(-30, 2)).exp() * noise
        error = self.module.decode_whole(self.module.normalise(sample)) - frames
        weight = 1 + self.config.sprite * sprite[:, None]
        likeness = (weight / weight.mean() * (error.abs() + error**2)).mean()
        return likeness + self.config.gradient * roughness(error) + self.config.kl * divergence(mean, log_variance)

    def batch(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Frames (B 3 T S S) in [-1, 1] and sprite (B T S S) of pieces of new clips, all of one length."""
        chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
        length = chance.choice(list(self.config.lengths))
        count = max(2, min(self.config.most, self.config.frames // length))
        pictures = []
        for _ in range(count):
            clip, start = make_clip(chance, 97, self.config.switch), chance.randrange(80)
            pictures.append(render(clip, start, start + length))
        frames = torch.stack([picture.frames for picture in pictures]).transpose(1, 2)
        return frames * 2 - 1, torch.stack([picture.sprite for picture in pictures])

    def check(self, step: int, out: Path) -> dict[str, float]:
        """Peak signal to noise in dB, and how much of what it shows the judge still reads."""
        source, error, facts, read = Source(97, 0.0, 2 * 10**7), [], [], []
        for number in range(self.config.judged):
            clip = source.clip(number)
            frames = render(clip, 0, source.frames).frames
            back = self.module.decode(self.module.encode((frames * 2 - 1).transpose(0, 1)[None]))[0].transpose(0, 1)
            back = (back / 2 + 0.5).clamp(0, 1)
            error.append((back - frames).pow(2).mean())
            facts.append(clip.scenes[0].facts)
            read.append(judge(back))
        psnr = float(-10 * torch.stack(error).log10().mean())
        return {"psnr": psnr, **{name: share.value for name, share in score(facts, read).items()}}

    def finish(self, out: Path) -> None:
        """Measure mean and deviation of the latents, and write the folder `codec`."""
        config = with_statistics(self.module, Source(61, 0.3, 10**7), self.config.measured)
        weights.save(self.module, config, out / "codec", kind="AutoencoderKLWan")


def new_codec(network: Mapping[str, Any]) -> WanCodec:
    """A codec to train from nothing."""
    codec = WanCodec(WanCodecConfig(**network))
    wan_codec.initialise(codec)
    return codec


def load_codec(folder: Path) -> WanCodec:
    """The codec of a folder, ready to train on."""
    codec = wan_codec.load(folder, torch.float32)
    return codec.requires_grad_(True)


@torch.no_grad()
def with_statistics(codec: WanCodec, source: Source, count: int) -> WanCodecConfig:
    """The codec's config with the mean and deviation of each channel over `count` clips."""
    clips = [render(source.clip(n), 0, source.frames).frames * 2 - 1 for n in range(count)]
    z = torch.cat([codec.moments(frames.transpose(0, 1)[None])[0] for frames in clips])
    mean, std = z.mean((0, 2, 3, 4)), z.std((0, 2, 3, 4))
    rounded = [tuple(round(float(number), 5) for number in numbers) for numbers in (mean, std)]
    scale = codec.config.scale
    return replace(
        codec.config, latents_mean=rounded[0], latents_std=rounded[1], scale_factor_spatial=scale,
        scale_factor_temporal=codec.stride,
    )  # fmt: skip


def roughness(error: Tensor) -> Tensor:
    """Mean absolute gradient of an error (B 3 T H W), across and down."""
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence from a unit normal."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
