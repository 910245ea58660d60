"""The table [multi_resolution] of a training config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from longtake.core.sigmas import token_shift
from longtake.core.units import PixelSize, parse_pixels
from longtake.pocket import FPS
from longtake.train.datasets.bucket_batches import BatchConfig, PrefixConditioning
from longtake.train.datasets.prepared_folder import FootageConfig
from longtake.train.objectives.sigma_sampling import logit_normal_sigmas, token_sigmas
from longtake.train.toml_config import read_table


@dataclass(frozen=True)
class MultiResolutionConfig:
    """Settings of multi-resolution training.

    seconds: durations of the clips. sizes: WIDTHxHEIGHT of the clips, such as ["768x512"]; every duration is trained at
    every size. clips: pocket clips of each size. seed: number of the first pocket clip. text: folder with text_encoder/ and
    tokenizer/. vae: folder of an LTX VAE. init: a model or a run to start from (see `weights.init_weights`), whose text
    encoder and VAE are used unless `text` and `vae` name others. network: an LTXConfig, or with `init` the settings that
    differ; settings that follow from the VAE are filled in.

    data: folder of latents; without it, clips are encoded into the run's folder. folder: a folder that `longtake data
    prepare` wrote, in place of clips and data; footage: how its shots become clips, where that differs from seconds and
    sizes (see `prepared_folder.FootageConfig`).

    batch, prefix: see `bucket_batches`. sigma_distribution: "mended" (see `sigma_sampling.token_sigmas`) or "published",
    which rarely draws low noise. uniform_share: share of uniformly drawn sigmas. sprite_loss_weight: extra weight of the
    sprite in the loss. eval_prompts: prompts of an evaluation. card: entries of the finished model's card.
    """

    text: str = ""
    vae: str = ""
    init: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    folder: str = ""
    footage: Mapping[str, Any] = field(default_factory=dict)
    seconds: Sequence[float] = (5.0, 8.0, 10.0)
    sizes: Sequence[PixelSize] = ("64x64", "96x64", "64x48")  # type: ignore[assignment]
    clips: int = 512
    seed: int = 0
    batch: BatchConfig = field(default_factory=BatchConfig)
    prefix: PrefixConditioning = field(default_factory=PrefixConditioning)
    sigma_distribution: Literal["mended", "published"] = "mended"
    uniform_share: float = 0.1
    sprite_loss_weight: float = 5.0
    eval_prompts: int = 12
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.vae or self.init):
            raise ValueError("there are no latents: set `vae`, the folder of an LTX VAE")
        if not (self.text or self.init):
            raise ValueError("there is no text encoder: set `text`, a folder with text_encoder/ and tokenizer/")
        if not self.seconds or not self.pixel_sizes:
            raise ValueError("set at least one duration in `seconds` and one WIDTHxHEIGHT in `sizes`")
        if self.footage and not self.folder:
            raise ValueError("`footage` says how shots of a prepared folder become clips: set `folder` too")

    @property
    def pixel_sizes(self) -> list[tuple[int, int]]:
        """The sizes as (height, width)."""
        return [parse_pixels(size, "sizes") for size in self.sizes]

    def draw_sigmas(self, generator: torch.Generator, count: int, tokens: int) -> Tensor:
        """Draw sigmas (B,) of videos of so many tokens."""
        if self.sigma_distribution == "published":
            return logit_normal_sigmas(generator, count, 0.0, 1.0, token_shift(tokens))
        return token_sigmas(generator, count, tokens, self.uniform_share)

    def footage_config(self) -> FootageConfig:
        """Read the table `footage`, whose durations and sizes default to those of this one."""
        table = {"seconds": self.seconds, "sizes": self.sizes, "fps": float(FPS), **self.footage}
        return read_table(FootageConfig, table, "multi_resolution.footage")
