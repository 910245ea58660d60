"""Recipe `vae`: the causal VAE of a family learns pocket clips, with extra weight on the sprite.

The loss between frames and reconstruction is an L1 and a squared error weighted by 1 + 5 * sprite, an L1 of the image
gradients, which keeps edges sharp, and a small KL divergence of the posterior from a unit normal. A plain loss learns the
scenery and loses the sprite's shape. An LTX decoder conditioned on a timestep is the last denoising step: it learns to
remove noise.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.core.units import PixelSize, parse_pixels
from longtake.models.checkpoints import loading as weights
from longtake.pocket import SIDE, make_clip, render
from longtake.pocket.clips import Source
from longtake.pocket.facts import JUDGED
from longtake.pocket.judge import judge, score
from longtake.train.interfaces import Result
from longtake.train.run.device import device_of
from longtake.train.toml_config import read_table
from longtake.train.weights.families import default_family, training_hooks
from longtake.train.weights.missing_parts import given_vae


@dataclass(frozen=True)
class VAEConfig:
    """Settings of VAE training.

    family: name of the model family, such as ltx. init: folder of a VAE to start from; network: the config of a VAE to
    train from random weights. decoder_only: train the decoder alone, so that the latents, and networks that generate them,
    stay valid.

    frames: per step, over all clips. max_clips: clips per step. lengths: of the clips in frames, one is drawn per step
    (1 + 4 k each, or 1 + 8 k for ltx). sizes: likewise, WIDTHxHEIGHT. sprite_loss_weight, gradient_weight, kl_weight: of
    the terms of the loss. max_decode_noise: largest sigma that a decoder with timesteps removes. switch: share of clips
    with a scene change. eval_clips: clips of an evaluation. statistics_clips: clips by which the latents are normalised.
    """

    family: str = field(default_factory=default_family)
    init: str = ""
    decoder_only: bool = False
    network: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 60
    max_clips: int = 16
    lengths: Sequence[int] = (1, 5, 9, 9, 13)
    sizes: Sequence[PixelSize] = (PixelSize(f"{SIDE}x{SIDE}"),)
    sprite_loss_weight: float = 5.0
    gradient_weight: float = 0.4
    kl_weight: float = 1e-4
    max_decode_noise: float = 0.2
    switch: float = 0.25
    eval_clips: int = 12
    statistics_clips: int = 48

    def __post_init__(self) -> None:
        hooks = training_hooks(self.family)
        if self.decoder_only and not self.init:
            raise ValueError("decoder_only trains the decoder of an existing encoder: set `init`, the folder of a VAE")
        if not (self.network or self.init or hooks.vae.default):
            raise ValueError("there is no VAE to train: add a table `network`, or set `init`, the folder of a VAE")
        if not self.pixel_sizes:
            raise ValueError("set at least one WIDTHxHEIGHT in `sizes`")

    @property
    def pixel_sizes(self) -> list[tuple[int, int]]:
        """The sizes as (height, width)."""
        return [parse_pixels(size, "sizes") for size in self.sizes]


CONFIG = VAEConfig
TINY_LR = 3e-3


class VAERecipe:
    """A `Recipe`: reconstruction of short pieces of pocket clips."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = read_table(CONFIG, config, "vae")
        self.hooks = training_hooks(self.config.family)
        self.module = self._loaded() if self.config.init else self._new()
        self.module.train()
        if wrong := [n for n in self.config.lengths if (n - 1) % self.module.temporal_compression]:
            raise ValueError(
                f"clips of {wrong[0]} frames do not fill whole latents: use lengths of 1 + "
                f"{self.module.temporal_compression} * k"
            )

    def _new(self) -> Any:
        part = self.hooks.vae
        vae = part.make(read_table(part.config, self.config.network or self.hooks.vae.default, "vae.network"))
        part.initialise(vae)
        return vae

    def _loaded(self) -> Any:
        part, folder = self.hooks.vae, given_vae(self.config.init, "init")
        vae = weights.load(part.make, weights.configure(part.config, folder), folder, part.names, torch.float32)
        vae.requires_grad_(True)
        if self.config.decoder_only:
            for name, weight in vae.named_parameters():
                weight.requires_grad_(not name.startswith(("encoder.", "quant_conv.")))
        return vae

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Compute the loss of a batch. Frames are compared unclamped: a clamp has no gradient where it is needed."""
        frames, sprite = (part.to(device_of(self.module)) for part in self.batch(generator))
        mean, log_variance = self.module.moments(frames)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        sample = mean + (0.5 * log_variance.clamp(-30, 2)).exp() * noise
        error = self.decoded(sample, generator) - frames
        weight = 1 + self.config.sprite_loss_weight * sprite[:, None]
        likeness = (weight / weight.mean() * (error.abs() + error**2)).mean()
        return (
            likeness
            + self.config.gradient_weight * roughness(error)
            + self.config.kl_weight * divergence(mean, log_variance)
        )

    def decoded(self, sample: Tensor, generator: torch.Generator) -> Tensor:
        """Decode posterior samples (B, C, F, h, w), which are noised first for a decoder with timesteps."""
        vae = self.module
        if not vae.denoises:
            return vae.decode_whole(vae.normalise(sample))
        sigma = self.config.max_decode_noise * torch.rand(len(sample), generator=generator).to(sample)
        noise = torch.randn(sample.shape, generator=generator).to(sample)
        return vae.decode_whole(vae.normalise(noised(sample, noise, sigma)), sigma)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw frames (B, 3, T, H, W) in [-1, 1] and sprite cover (B, T, H, W) of clips of one length and size."""
        rng = random.Random(int(torch.randint(1 << 62, (), generator=generator)))
        length = rng.choice(list(self.config.lengths))
        sizes = self.config.pixel_sizes
        height, width = rng.choice(sizes) if len(sizes) > 1 else sizes[0]
        count = max(2, min(self.config.max_clips, self.config.frames // length))
        pictures = []
        for _ in range(count):
            clip, start = make_clip(rng, 97, self.config.switch), rng.randrange(80)
            pictures.append(render(clip, start, start + length, (height, width)))
        frames = torch.stack([picture.frames for picture in pictures]).transpose(1, 2)
        return frames * 2 - 1, torch.stack([picture.sprite for picture in pictures])

    def scores(self) -> Sequence[str]:
        """Return the names of the scores of `evaluate`."""
        return ("psnr", *JUDGED)

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Return the PSNR in dB, and the share of facts that the judge still reads from reconstructions."""
        source, error, facts, verdicts = Source(97, 0.0, 2 * 10**7), [], [], []
        for number in range(self.config.eval_clips):
            clip = source.clip(number)
            frames = render(clip, 0, source.frames).frames
            batch = (frames * 2 - 1).transpose(0, 1)[None].to(device_of(self.module))
            back = self.module.decode(self.module.encode(batch))[0].transpose(0, 1)
            back = (back / 2 + 0.5).clamp(0, 1).cpu()
            error.append((back - frames).pow(2).mean())
            facts.append(clip.scenes[0].facts)
            verdicts.append(judge(back))
        psnr = float(-10 * torch.stack(error).log10().mean())
        return {"psnr": psnr, **{name: share.value for name, share in score(facts, verdicts).items()}}

    def finish(self, out: Path) -> None:
        """Measure mean and deviation of the latents, unless only the decoder was trained, and write the folder `vae`."""
        if self.config.decoder_only:
            weights.save(self.module, self.module.config, out / "vae", kind=self.hooks.classes.vae)
            return
        temporal_compression = self.module.temporal_compression
        mean, std = statistics(
            self.module,
            Source(1 + 60 // temporal_compression * temporal_compression, 0.3, 10**7),
            self.config.statistics_clips,
        )
        config = self.hooks.with_statistics(self.module, mean, std)
        weights.save(self.module, config, out / "vae", kind=self.hooks.classes.vae)

    def result(self, out: Path) -> Result:
        """Return the VAE."""
        return Result("VAE", out / "vae", key="vae")


@torch.no_grad()
def statistics(vae: Any, source: Source, count: int) -> tuple[Tensor, Tensor]:
    """Measure mean and deviation (C,) of each channel of the posterior means of `count` clips."""
    clips = [render(source.clip(n), 0, source.frames).frames * 2 - 1 for n in range(count)]
    z = torch.cat([vae.moments(frames.transpose(0, 1)[None].to(device_of(vae)))[0] for frames in clips])
    return z.mean((0, 2, 3, 4)), z.std((0, 2, 3, 4))


def noised(z: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Noise latents (B, C, F, h, w) to sigmas (B,), in the space in which each channel of the batch is normal."""
    mean, std = (part.detach() for part in (z.mean((0, 2, 3, 4), True), z.std((0, 2, 3, 4), keepdim=True)))
    share = sigma[:, None, None, None, None]
    return mean + (1 - share) * (z - mean) + share * std * noise


def roughness(error: Tensor) -> Tensor:
    """Return the mean absolute gradient of an error (B, 3, T, H, W), in x and y."""
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence from a unit normal."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()


def make(config: Mapping[str, Any], out: Path) -> VAERecipe:
    """Make the recipe from its table and the run's folder."""
    return VAERecipe(config, out)


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    network = dict(
        base_dim=4, decoder_base_dim=4, z_dim=4, dim_mult=(1, 1, 1), num_res_blocks=1, temperal_downsample=(True, True),
        in_channels=12, out_channels=12, patch_size=2, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4,
    )  # fmt: skip
    return {"network": network, "frames": 10, "lengths": (1, 5), "eval_clips": 1, "statistics_clips": 2}
