"""Recipe `codec`: the codec of a family learns pocket clips, with more weight on the sprite.

The loss of frame and reconstruction is an L1 and a square weighted by 1 + 5 * sprite, an L1 of the gradients, which keeps
edges sharp, and a little of the divergence of the posterior from a unit normal. A plain loss learns the scenery and
loses the sprite's shape. An LTX decoder with timesteps is the last step of denoising: it learns to take noise away.
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
from longtake.models import weights
from longtake.train.config import read_table
from longtake.train.data import Source
from longtake.train.family import FAMILIES
from longtake.train.place import at
from longtake.world import SIDE, make_clip, render
from longtake.world.facts import JUDGED

SMALL: Mapping[str, Any] = dict(
    base_dim=16, decoder_base_dim=32, z_dim=16, dim_mult=(1, 2, 4), num_res_blocks=1, temperal_downsample=(True, True),
    in_channels=12, out_channels=12, patch_size=2, latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16,
)  # fmt: skip


@dataclass(frozen=True)
class CodecConfig:
    """What to train on. start: folder of a codec to go on from; network: the config of a codec to begin anew with.
    alone: train the decoder only, so that latents, and networks that make them, stay what they are.

    family: "wan" or "ltx", of the codec. frames: per step, shared out over clips, `most` at most. lengths: of the clips,
    one is drawn per step (1 + 4 k each, or 1 + 8 k for ltx). sizes: likewise, height and width. sprite, gradient, kl:
    weights in the loss. noise: the most noise that a decoder with timesteps takes away. switch: share of clips whose
    facts change. judged: clips of a check. measured: clips over which the latents are normalised.
    """

    family: str = "wan"
    start: str = ""
    alone: bool = False
    network: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 60
    most: int = 16
    lengths: Sequence[int] = (1, 5, 9, 9, 13)
    sizes: Sequence[Sequence[int]] = ((SIDE, SIDE),)
    sprite: float = 5.0
    gradient: float = 0.4
    kl: float = 1e-4
    noise: float = 0.2
    switch: float = 0.25
    judged: int = 12
    measured: int = 48

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}: it is one of {', '.join(FAMILIES)}")
        if self.alone and not self.start:
            raise ValueError("a decoder is trained alone for an encoder: give `start`, the folder of a codec")
        if not self.network and self.family != "wan" and not self.start:
            raise ValueError("say what codec to train: a table `network`, or `start`, the folder of one to go on from")


class CodecRecipe:
    """Reconstruction of short pieces of pocket clips."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = read_table(CodecConfig, config, "codec")
        self.family = FAMILIES[self.config.family]
        self.module = self._started() if self.config.start else self._new()
        self.module.train()
        if wrong := [n for n in self.config.lengths if (n - 1) % self.module.stride]:
            raise ValueError(
                f"clips of {wrong[0]} frames do not fill latents: lengths are 1 + {self.module.stride} * k"
            )

    def _new(self) -> Any:
        part = self.family.codec
        codec = part.make(read_table(part.config, self.config.network or SMALL, "codec.network"))
        part.begin(codec)
        return codec

    def _started(self) -> Any:
        part, folder = self.family.codec, Path(self.config.start)
        codec = weights.load(part.make, weights.configure(part.config, folder), folder, part.names, torch.float32)
        codec.requires_grad_(True)
        if self.config.alone:
            for name, weight in codec.named_parameters():
                weight.requires_grad_(not name.startswith(("encoder.", "quant_conv.")))
        return codec

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """The loss of one batch; frames are compared unclamped, since a clamp has no gradient where it is needed."""
        frames, sprite = (part.to(at(self.module)) for part in self.batch(rng))
        mean, log_variance = self.module.moments(frames)
        noise = torch.randn(mean.shape, generator=rng).to(mean)
        sample = mean + (0.5 * log_variance.clamp(-30, 2)).exp() * noise
        error = self.decoded(sample, rng) - frames
        weight = 1 + self.config.sprite * sprite[:, None]
        likeness = (weight / weight.mean() * (error.abs() + error**2)).mean()
        return likeness + self.config.gradient * roughness(error) + self.config.kl * divergence(mean, log_variance)

    def decoded(self, sample: Tensor, rng: torch.Generator) -> Tensor:
        """Frames of posterior samples (B C F h w); for a decoder with timesteps, of ones with noise on them."""
        codec = self.module
        if not getattr(codec.config, "timestep_conditioning", False):
            return codec.decode_whole(codec.normalise(sample))
        level = self.config.noise * torch.rand(len(sample), generator=rng).to(sample)
        noise = torch.randn(sample.shape, generator=rng).to(sample)
        return codec.decode_whole(codec.normalise(noised(sample, noise, level)), level)

    def batch(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Frames (B 3 T H W) in [-1, 1] and sprite (B T H W) of pieces of new clips, all of one length and size."""
        chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
        length = chance.choice(list(self.config.lengths))
        height, width = chance.choice(self.config.sizes) if len(self.config.sizes) > 1 else self.config.sizes[0]
        count = max(2, min(self.config.most, self.config.frames // length))
        pictures = []
        for _ in range(count):
            clip, start = make_clip(chance, 97, self.config.switch), chance.randrange(80)
            pictures.append(render(clip, start, start + length, (height, width)))
        frames = torch.stack([picture.frames for picture in pictures]).transpose(1, 2)
        return frames * 2 - 1, torch.stack([picture.sprite for picture in pictures])

    def scores(self) -> Sequence[str]:
        """See `NamesScores`."""
        return ("psnr", *JUDGED)

    def check(self, step: int, out: Path) -> dict[str, float]:
        """Peak signal to noise in dB, and how much of what it shows the judge still reads."""
        source, error, facts, read = Source(97, 0.0, 2 * 10**7), [], [], []
        for number in range(self.config.judged):
            clip = source.clip(number)
            frames = render(clip, 0, source.frames).frames
            there = (frames * 2 - 1).transpose(0, 1)[None].to(at(self.module))
            back = self.module.decode(self.module.encode(there))[0].transpose(0, 1)
            back = (back / 2 + 0.5).clamp(0, 1).cpu()
            error.append((back - frames).pow(2).mean())
            facts.append(clip.scenes[0].facts)
            read.append(judge(back))
        psnr = float(-10 * torch.stack(error).log10().mean())
        return {"psnr": psnr, **{name: share.value for name, share in score(facts, read).items()}}

    def finish(self, out: Path) -> None:
        """Measure mean and deviation of the latents, if they changed, and write the folder `codec`."""
        if self.config.alone:
            weights.save(self.module, self.module.config, out / "codec", kind=self.family.stored)
            return
        config, stride = self.module.config, self.module.stride
        mean, std = statistics(self.module, Source(1 + 60 // stride * stride, 0.3, 10**7), self.config.measured)
        if self.config.family == "ltx":
            self.module.latents_mean.copy_(mean)
            self.module.latents_std.copy_(std)
        else:
            rounded = [tuple(round(float(number), 5) for number in numbers) for numbers in (mean, std)]
            config = replace(
                config, latents_mean=rounded[0], latents_std=rounded[1], scale_factor_spatial=config.scale,
                scale_factor_temporal=stride,
            )  # fmt: skip
        weights.save(self.module, config, out / "codec", kind=self.family.stored)


@torch.no_grad()
def statistics(codec: Any, source: Source, count: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation (C,) of each channel of the posterior means of `count` clips."""
    clips = [render(source.clip(n), 0, source.frames).frames * 2 - 1 for n in range(count)]
    z = torch.cat([codec.moments(frames.transpose(0, 1)[None].to(at(codec)))[0] for frames in clips])
    return z.mean((0, 2, 3, 4)), z.std((0, 2, 3, 4))


def noised(z: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Latents (B C F h w) with noise of a level (B,), in the space in which each channel of the batch is normal."""
    mean, std = (part.detach() for part in (z.mean((0, 2, 3, 4), True), z.std((0, 2, 3, 4), keepdim=True)))
    share = level[:, None, None, None, None]
    return mean + (1 - share) * (z - mean) + share * std * noise


def roughness(error: Tensor) -> Tensor:
    """Mean absolute gradient of an error (B 3 T H W), across and down."""
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence from a unit normal."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
