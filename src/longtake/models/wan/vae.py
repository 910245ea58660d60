"""The Wan VAE, causal in time: latent 0 holds one frame, every later one `temporal_compression`; it streams both ways.

Weight names are those of diffusers' AutoencoderKLWan. Shapes: B videos, T frames, F latent frames, Z latent channels,
H W pixels, h w latent pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.checkpoints import loading as weights
from longtake.models.layers import wide
from longtake.models.patches import check_whole_latents, fold_patches, join_patches, unfold_patches
from longtake.models.wan.vae_config import NAMES, WanVAEConfig
from longtake.models.wan.vae_layers import (
    Attention,
    Conv,
    ConvCache,
    Down,
    Middle,
    Norm,
    Pointwise,
    Residual,
    TimeConv,
    Up,
    UpBlock,
)


def load(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> WanVAE:
    """Load the VAE of a folder with config.json and safetensors."""
    return weights.load(WanVAE, weights.configure(WanVAEConfig, folder), folder, NAMES, dtype, device)


class Encoder(nn.Module):
    """The encoder: patched frames (B, T, H, W, C) to the moments of latents (B, F, h, w, 2Z)."""

    def __init__(self, config: WanVAEConfig):
        super().__init__()
        widths = [config.base_dim * mult for mult in (1, *config.dim_mult)]
        self.conv_in = Conv(config.in_channels, widths[0])
        self.down_blocks = nn.ModuleList()
        for stage, (dim, out) in enumerate(pairwise(widths)):
            for i in range(config.num_res_blocks):
                self.down_blocks.append(Residual(dim if i == 0 else out, out))
                if 0.5**stage in config.attn_scales:
                    self.down_blocks.append(Attention(out))
            if stage < len(config.temperal_downsample):
                self.down_blocks.append(Down(out, config.temperal_downsample[stage]))
        self.mid_block = Middle(widths[-1])
        self.norm_out, self.conv_out = Norm(widths[-1], 3), Conv(widths[-1], 2 * config.z_dim)

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:
        x = self.conv_in(x, cache)
        for layer in (*self.down_blocks, self.mid_block):
            x = layer(x, cache)
        return self.conv_out(nnf.silu(self.norm_out(x)), cache)


class DecoderNet(nn.Module):
    """The decoder: latents (B, F, h, w, Z) to patched frames (B, T, H, W, C)."""

    def __init__(self, config: WanVAEConfig):
        super().__init__()
        base = config.decoder_base_dim or config.base_dim
        widths = [base * mult for mult in (config.dim_mult[-1], *reversed(config.dim_mult))]
        doubles = config.temperal_downsample[::-1]
        self.conv_in = Conv(config.z_dim, widths[0])
        self.mid_block = Middle(widths[0])
        self.up_blocks = nn.ModuleList()
        for stage, (dim, out) in enumerate(pairwise(widths)):
            up = Up(out, doubles[stage]) if stage < len(doubles) else None
            self.up_blocks.append(UpBlock(dim if stage == 0 else dim // 2, out, config.num_res_blocks + 1, up))
        self.norm_out, self.conv_out = Norm(widths[-1], 3), Conv(widths[-1], config.out_channels)

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:
        x = self.mid_block(self.conv_in(x, cache), cache)
        for block in self.up_blocks:
            x = block(x, cache)
        return self.conv_out(nnf.silu(self.norm_out(x)), cache)


class WanVAE(nn.Module):
    """A `VAE`: frames in [-1, 1] to latents of about unit variance, and back.

    `encode`, `decode` and `decoder` work latent by latent with cached state, so memory does not grow with the clip, and a
    stream is bit-equal to decoding at once because both take the same steps. `moments` and `decode_whole` process a whole
    clip at once, for training; they agree with the others up to rounding. On a CPU without bfloat16 units, keep the
    weights in float32: bfloat16 is six times slower there.
    """

    denoises = False  # its decoder takes clean latents

    def __init__(self, config: WanVAEConfig):
        super().__init__()
        self.config = config
        self.folds: bool | None = None
        self.temporal_compression, self.spatial_compression, self.channels, self.replay_latents = (
            config.temporal_compression,
            config.spatial_compression,
            config.z_dim,
            config.replay_latents,
        )
        self.encoder = Encoder(config)
        self.quant_conv = Pointwise(2 * config.z_dim, 2 * config.z_dim)
        self.post_quant_conv = Pointwise(config.z_dim, config.z_dim)
        self._modules["decoder"] = DecoderNet(config)  # its name among the weights is hidden by the method `decoder`

    @property
    def decoder_net(self) -> DecoderNet:
        """The decoder network."""
        return cast(DecoderNet, self._modules["decoder"])

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames (B, 3, T, H, W), T = 1 + temporal_compression * k -> normalised latents (B, Z, F, h, w) (the mode)."""
        check_whole_latents(frames, self)
        cache, bounds = self.cache(), [0, *range(1, frames.shape[2] + 1, self.temporal_compression)]
        parts = [self.encoder(self._patch(frames[:, :, start:stop]), cache) for start, stop in pairwise(bounds)]
        return self.normalise(self._moments(torch.cat(parts, 1))[0])

    def moments(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance (B, Z, F, h, w) of the posterior, not normalised, of a whole clip."""
        check_whole_latents(frames, self)
        return self._moments(self.encoder(self._patch(frames), None))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents (B, Z, F, h, w) -> frames (B, 3, T, H, W), unclamped, as the streaming decoder does."""
        return self._joined(self._frames(latents, self.cache()))

    def decode_whole(self, latents: Tensor) -> Tensor:
        """Decode a whole clip at once, for training."""
        return self._joined([self._decode(latents, None)])

    def cache(self) -> ConvCache:
        """Return the state of a new stream. Convolutions are folded where that is faster, unless `folds` is set."""
        return ConvCache(folds=self.quant_conv.weight.device.type == "cpu" if self.folds is None else self.folds)

    def decoder(self) -> WanDecoder:
        """Return a new streaming decoder."""
        return WanDecoder(self)

    def normalise(self, mean: Tensor) -> Tensor:
        """Normalise posterior means (B, Z, F, h, w) to zero mean and unit variance per channel."""
        return (mean - per_channel(mean, self.config.latents_mean)) / per_channel(mean, self.config.latents_std)

    def _decode(self, latents: Tensor, cache: ConvCache | None) -> Tensor:
        """Decode latents (B, Z, F, h, w) -> frames in the layout of `_unpatch`."""
        latents = wide(latents)
        z = latents * per_channel(latents, self.config.latents_std) + per_channel(latents, self.config.latents_mean)
        x = self.post_quant_conv(z.to(self.post_quant_conv.weight.dtype).permute(0, 2, 3, 4, 1))
        return self._unpatch(self.decoder_net(x, cache))

    def _frames(self, latents: Tensor, cache: ConvCache) -> Iterator[Tensor]:
        return (self._decode(latent, cache) for latent in latents.split(1, 2))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = wide(self.quant_conv(x)).permute(0, 4, 1, 2, 3).chunk(2, 1)
        return mean, logvar

    def _patch(self, frames: Tensor) -> Tensor:
        return fold_patches(frames.to(self.quant_conv.weight.dtype), self.config.patch_size or 1)

    def _unpatch(self, x: Tensor) -> Tensor:
        """Spread channels to patches without joining rows and columns, so that no pixel is copied yet."""
        return unfold_patches(x, self.config.patch_size or 1)

    def _joined(self, parts: Iterable[Tensor]) -> Tensor:
        """Join parts of a video (B, 3, T, h, row, w, column) to frames (B, 3, T, H, W); every pixel is copied once."""
        return join_patches(torch.cat(list(parts), 2))


class WanDecoder:
    """A streaming `Decoder` of one clip. A shallow copy continues on its own."""

    def __init__(self, vae: WanVAE):
        self._vae, self.cache = vae, vae.cache()
        self._none = torch.empty(1, 3, 0, 0, 0)

    @torch.no_grad()
    def push(self, latents: Tensor) -> Tensor:
        """Decode the next latents (B, Z, F, h, w) -> frames (B, 3, T, H, W), unclamped."""
        frames = self._vae._joined(self._vae._frames(latents, self.cache))
        self._none = frames[:, :, :0].clone()
        return frames

    def flush(self) -> Tensor:
        """Return no frames: none is ever withheld."""
        return self._none

    def to(self, device: str) -> None:
        """Move the state of the stream; the VAE must be on the same device."""
        self.cache = ConvCache(
            {layer: frames.to(device) for layer, frames in self.cache.frames.items()}, {}, self.cache.folds
        )

    def __copy__(self) -> WanDecoder:
        twin = WanDecoder(self._vae)
        twin.cache, twin._none = self.cache.copy(), self._none
        return twin


def per_channel(x: Tensor, numbers: Sequence[float]) -> Tensor:
    """Return one number per channel of x (B, Z, F, h, w), ready to broadcast."""
    return x.new_tensor(numbers)[:, None, None, None]


@torch.no_grad()
def initialise(vae: WanVAE) -> None:
    """Initialise so that time can be learned: frames pass the time convolutions unchanged, posteriors are narrow."""
    for module in vae.modules():
        if isinstance(module, TimeConv):
            for weight in module.parameters():
                weight.zero_()
            for half in module.weight.split(module.in_channels):
                half[:, :, -1, 0, 0] = torch.eye(module.in_channels)
    nn.init.constant_(cast(Tensor, vae.quant_conv.bias)[vae.channels :], -5.0)
