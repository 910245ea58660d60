"""The latent upsampler of LTX-Video: latents of twice the height and width (or twice the frames).

Weight names are those of diffusers' LTXLatentUpsamplerModel and of the published files. It works on latents that are
not normalised. Shapes: B videos, Z latent channels, F latent frames, h w latent pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch.nn.functional as nnf
from safetensors import safe_open
from torch import Tensor, nn

from longtake.grade import matched, statistics
from longtake.models import weights
from longtake.models.ltx_codec import LTXCodec

GROUPS = 32


@dataclass(frozen=True)
class LTXUpsamplerConfig:
    """Shape of an upsampler; the names are those of diffusers' config.json, the defaults those of 0.9.7 and 0.9.8."""

    in_channels: int = 128
    mid_channels: int = 512
    num_blocks_per_stage: int = 4
    dims: int = 3
    spatial_upsample: bool = True
    temporal_upsample: bool = False

    def __post_init__(self):
        if self.dims not in (2, 3):
            raise ValueError(f"dims is {self.dims}, but an upsampler has convolutions of 2 or 3 dimensions")
        if self.dims == 2 and self.temporal_upsample:
            raise ValueError("an upsampler with dims 2 sees frames one by one, so it cannot make more of them")
        if not (self.spatial_upsample or self.temporal_upsample):
            raise ValueError("an upsampler with neither spatial_upsample nor temporal_upsample does nothing")
        if self.mid_channels % GROUPS:
            raise ValueError(f"mid_channels is {self.mid_channels}, not a multiple of {GROUPS}")

    @property
    def factors(self) -> tuple[int, ...]:
        """By how much time (if at all), height and width grow."""
        return (2,) * self.temporal_upsample + (2, 2) * self.spatial_upsample


def load(path: Path | str, dtype: Any = None, device: Any = "cpu") -> LTXUpsampler:
    """The upsampler of a diffusers folder, or of a published file whose metadata tells its shape."""
    path = Path(path)
    if path.is_dir():
        config = weights.configure(LTXUpsamplerConfig, path)
    else:
        with safe_open(path, "pt") as opened:
            told = json.loads((opened.metadata() or {}).get("config", "{}"))
        known = {field.name for field in fields(LTXUpsamplerConfig)}
        config = LTXUpsamplerConfig(**{name: value for name, value in told.items() if name in known})
    return weights.load(LTXUpsampler, config, path, (), dtype, device)


class ResBlock(nn.Module):
    """Two convolutions; the activation comes after the sum."""

    def __init__(self, width: int, conv: type[nn.Module]):
        super().__init__()
        self.conv1, self.norm1 = conv(width, width, kernel_size=3, padding=1), nn.GroupNorm(GROUPS, width)
        self.conv2, self.norm2 = conv(width, width, kernel_size=3, padding=1), nn.GroupNorm(GROUPS, width)

    def forward(self, x: Tensor) -> Tensor:
        return nnf.silu(self.norm2(self.conv2(nnf.silu(self.norm1(self.conv1(x))))) + x)


class LTXUpsampler(nn.Module):
    """Latents (B Z F h w), not normalised, to (B Z F 2h 2w); 2F - 1 frames if it also (or only) grows in time."""

    def __init__(self, config: LTXUpsamplerConfig):
        super().__init__()
        self.config = config
        width = config.mid_channels
        conv: type[nn.Module] = nn.Conv2d if config.dims == 2 else nn.Conv3d
        self.initial_conv = conv(config.in_channels, width, kernel_size=3, padding=1)
        self.initial_norm = nn.GroupNorm(GROUPS, width)
        self.res_blocks = nn.ModuleList(ResBlock(width, conv) for _ in range(config.num_blocks_per_stage))
        grow: type[nn.Module] = nn.Conv3d if config.temporal_upsample else nn.Conv2d
        self.upsampler = nn.Sequential(grow(width, 2 ** len(config.factors) * width, kernel_size=3, padding=1))
        self.post_upsample_res_blocks = nn.ModuleList(ResBlock(width, conv) for _ in range(config.num_blocks_per_stage))
        self.final_conv = conv(width, config.in_channels, kernel_size=3, padding=1)

    def forward(self, x_BZFhw: Tensor) -> Tensor:
        """Raw latents with more pixels or frames, as the config says."""
        batch, flat = len(x_BZFhw), self.config.dims == 2
        x = framed(x_BZFhw) if flat else x_BZFhw
        x = nnf.silu(self.initial_norm(self.initial_conv(x)))
        for block in self.res_blocks:
            x = block(x)
        x = self._grown(x, flat)
        for block in self.post_upsample_res_blocks:
            x = block(x)
        x = self.final_conv(x)
        return unframed(x, batch) if flat else x

    def _grown(self, x: Tensor, flat: bool) -> Tensor:
        if self.config.temporal_upsample:  # the first latent stands for one frame, so it becomes one
            return shuffled(self.upsampler(x), self.config.factors)[:, :, 1:]
        if flat:
            return shuffled(self.upsampler(x), self.config.factors)
        return unframed(shuffled(self.upsampler(framed(x)), self.config.factors), len(x))


def framed(x: Tensor) -> Tensor:
    """(B C F h w) -> (B*F C h w)"""
    return x.transpose(1, 2).flatten(0, 1)


def unframed(x: Tensor, batch: int) -> Tensor:
    """Undo `framed`."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def shuffled(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Channels (C * product of factors) into the first axes after them, the last factor fastest: pixel shuffle."""
    x = x.unflatten(1, (-1, *factors))  # B C, the factors, then the axes that they belong to
    for _ in factors:
        place = 2 + len(factors)  # of the next axis, once the factor at 2 has moved behind it
        x = x.movedim(2, place).flatten(place - 1, place)
    return x


def upsampled(net: LTXUpsampler, codec: LTXCodec, latents: Tensor, share: float = 1.0) -> Tensor:
    """Normalised latents (B Z F h w) at twice the size, with the statistics that they had (AdaIN by `share`)."""
    dtype = next(net.parameters()).dtype
    raw = latents * codec.latents_std[:, None, None, None].to(latents)
    raw = raw + codec.latents_mean[:, None, None, None].to(latents)
    grown = codec.normalise(net(raw.to(dtype)).to(latents.dtype))
    return matched(grown, statistics(latents), share) if share else grown
