"""The latent upsampler of LTX-Video, which doubles height and width (or the frames) of latents.

Weight names are those of diffusers' LTXLatentUpsamplerModel and of the published files. It works on latents that are
not normalised. Shapes: B videos, Z latent channels, F latent frames, h w latent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.core.latent_stats import matched, statistics
from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.safetensors_headers import json_metadata
from longtake.models.ltx.vae import LTXVAE

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
            raise ValueError(f"dims is {self.dims}, but the convolutions of an upsampler have 2 or 3 dimensions")
        if self.dims == 2 and self.temporal_upsample:
            raise ValueError("an upsampler with dims 2 processes frames one by one, so it cannot add frames")
        if not (self.spatial_upsample or self.temporal_upsample):
            raise ValueError("an upsampler with neither spatial_upsample nor temporal_upsample does nothing")
        if self.mid_channels % GROUPS:
            raise ValueError(f"mid_channels is {self.mid_channels}, not a multiple of {GROUPS}")

    @property
    def factors(self) -> tuple[int, ...]:
        """The factors of time (if it grows), height and width."""
        return (2,) * self.temporal_upsample + (2, 2) * self.spatial_upsample


def upsampler_config(path: Path) -> LTXUpsamplerConfig:
    """Read the shape of an upsampler: from config.json in a diffusers folder, else from the metadata of a published file."""
    if path.is_dir():
        return weights.configure(LTXUpsamplerConfig, path)
    known = {field.name for field in fields(LTXUpsamplerConfig)}
    stated = {name: value for name, value in json_metadata(path, "config").items() if name in known}
    return weights.as_config(LTXUpsamplerConfig, stated, path)


def load(path: Path | str, dtype: Any = None, device: Any = "cpu") -> LTXUpsampler:
    """Load the upsampler of a diffusers folder, or of a published file whose metadata states its shape."""
    config = upsampler_config(Path(path))
    return weights.load(LTXUpsampler, config, path, (), dtype, device)


class ResBlock(nn.Module):
    """A residual block of two convolutions, with the activation after the sum."""

    def __init__(self, width: int, conv: type[nn.Module]):
        super().__init__()
        self.conv1, self.norm1 = conv(width, width, kernel_size=3, padding=1), nn.GroupNorm(GROUPS, width)
        self.conv2, self.norm2 = conv(width, width, kernel_size=3, padding=1), nn.GroupNorm(GROUPS, width)

    def forward(self, x: Tensor) -> Tensor:
        return nnf.silu(self.norm2(self.conv2(nnf.silu(self.norm1(self.conv1(x))))) + x)


class LTXUpsampler(nn.Module):
    """The network: latents (B, Z, F, h, w), not normalised, to (B, Z, F, 2h, 2w), or 2F - 1 frames if time grows."""

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
        """Upsample latents that are not normalised."""
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
        if self.config.temporal_upsample:  # the first latent holds one frame, so it stays one
            return shuffled(self.upsampler(x), self.config.factors)[:, :, 1:]
        if flat:
            return shuffled(self.upsampler(x), self.config.factors)
        return unframed(shuffled(self.upsampler(framed(x)), self.config.factors), len(x))


def framed(x: Tensor) -> Tensor:
    """Move frames into the batch: (B, C, F, h, w) -> (B*F, C, h, w)."""
    return x.transpose(1, 2).flatten(0, 1)


def unframed(x: Tensor, batch: int) -> Tensor:
    """Move frames out of the batch, the inverse of `framed`."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def shuffled(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Pixel shuffle: spread channels (C * product of factors) over the first axes after them, the last factor fastest."""
    x = x.unflatten(1, (-1, *factors))  # B, C, the factors, then their axes
    for _ in factors:
        place = 2 + len(factors)  # where the factor moves, after its axis
        x = x.movedim(2, place).flatten(place - 1, place)
    return x


def upsampled(net: LTXUpsampler, vae: LTXVAE, latents: Tensor, share: float = 1.0) -> Tensor:
    """Upsample normalised latents (B, Z, F, h, w) and match their old statistics by `share` (AdaIN)."""
    dtype = next(net.parameters()).dtype
    raw = latents * vae.latents_std[:, None, None, None].to(latents)
    raw = raw + vae.latents_mean[:, None, None, None].to(latents)
    grown = vae.normalise(net(raw.to(dtype)).to(latents.dtype))
    return matched(grown, statistics(latents), share) if share else grown
