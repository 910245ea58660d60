"""The LTX VAE: a causal encoder and a decoder that sees one latent ahead; both stream in constant memory.

Weight names are those of diffusers' AutoencoderKLLTXVideo. Shapes: B videos, T frames, F latent frames, Z latent
channels, H W pixels, h w latent pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.core.noise import CounterNoise, NoiseKey
from longtake.models.checkpoints import loading as weights
from longtake.models.layers import wide
from longtake.models.ltx.vae_config import STRIDES, LTXVAEConfig
from longtake.models.ltx.vae_layers import (
    Conv,
    ConvCache,
    Down,
    DownBlock,
    NoiseSource,
    Residual,
    Stage,
    TimeEmbedder,
    Up,
    modulated,
    norm,
)
from longtake.models.patches import check_whole_latents, fold_patches, join_patches, unfold_patches


def load(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> LTXVAE:
    """Load the VAE of a folder with config.json and safetensors."""
    return weights.load(LTXVAE, weights.configure(LTXVAEConfig, folder), folder, (), dtype, device)


class Encoder(nn.Module):
    """The encoder: patched frames (B, T, H, W, C) to means and a log variance of latents (B, F, h, w, Z + 1)."""

    def __init__(self, config: LTXVAEConfig):
        super().__init__()
        widths, eps = config.encoder.widths, config.resnet_norm_eps
        self.conv_in = Conv(config.in_channels * config.patch_size**2, widths[0], ahead=0)
        self.down_blocks = nn.ModuleList(
            DownBlock(dim, out, config.encoder.layers_per_block[i], eps, self._down(config, i, dim, out))
            for i, (dim, out) in enumerate(pairwise(widths))
        )
        self.mid_block = Stage(widths[-1], widths[-1], config.encoder.layers_per_block[-1], eps, ahead=0)
        self.conv_out = Conv(widths[-1], config.latent_channels + 1, ahead=0)

    @staticmethod
    def _down(config: LTXVAEConfig, i: int, dim: int, out: int) -> Conv | Down | None:
        if not config.encoder.spatio_temporal_scaling[i]:
            return None
        if not config.encoder.grown or config.encoder.downsample_type[i] == "conv":
            return Conv(dim, dim, ahead=0, stride=2)
        return Down(dim, out, STRIDES[config.encoder.downsample_type[i]])

    def forward(self, x: Tensor, cache: ConvCache) -> Tensor:
        x = self.conv_in(x, cache)
        for block in self.down_blocks:
            x = block(x, cache)
        return self.conv_out(nnf.silu(norm(self.mid_block(x, None, cache))), cache)


class DecoderNet(nn.Module):
    """The decoder: latents (B, F, h, w, Z) to patched frames (B, T, H, W, C)."""

    def __init__(self, config: LTXVAEConfig):
        super().__init__()
        shape = config.decoder
        layers, noisy = shape.layers_per_block[::-1], shape.inject_noise[::-1]
        doubles, residual = shape.spatio_temporal_scaling[::-1], shape.upsample_residual[::-1]
        first, eps, timed = shape.block_out_channels[-1], config.resnet_norm_eps, shape.timestep_conditioning
        self.conv_in = Conv(config.latent_channels, first, ahead=1)
        self.mid_block = Stage(first, first, layers[0], eps, 1, None, timed, noisy[0])
        self.up_blocks = nn.ModuleList(
            Stage(
                dim, out, layers[i + 1], eps, 1, Up(out * factor, factor, residual[i]) if doubles[i] else None,
                timed, noisy[i + 1],
            )
            for i, (dim, out, factor) in enumerate(shape.stages)
        )  # fmt: skip
        last = shape.stages[-1][1]
        self.conv_out = Conv(last, config.out_channels * config.patch_size**2, ahead=1)
        self.time_embedder = TimeEmbedder(2 * last) if timed else None
        if timed:
            self.timestep_scale_multiplier = nn.Parameter(torch.tensor(1000.0))
            self.scale_shift_table = nn.Parameter(torch.randn(2, last) / last**0.5)

    def forward(self, x: Tensor, time: Tensor, cache: ConvCache, most: int = 0) -> Iterator[Tensor]:
        """Yield the frames that x completes (x is the end of the stream if cache.last), at most `most` at a time (0: all).

        time: (B,) in [0, 1]. Each part passes its output on in pieces, so that the end of a clip needs no more memory
        than its middle.
        """
        if self.time_embedder is not None:
            time = time * self.timestep_scale_multiplier
        pieces: Iterable[tuple[Tensor, bool]] = [(x, cache.last)]
        for part in (self._enter, *self.up_blocks, self._leave):
            pieces = in_pieces(part, pieces, time, cache, most)
        return (piece for piece, _ in pieces)

    def _enter(self, x: Tensor, time: Tensor, cache: ConvCache) -> Tensor:
        return self.mid_block(self.conv_in(x, cache), time, cache)

    def _leave(self, x: Tensor, time: Tensor, cache: ConvCache) -> Tensor:
        x = norm(x)
        if self.time_embedder is not None:
            shift, scale = (self.scale_shift_table + self.time_embedder(time).unflatten(1, (2, -1))).unbind(1)
            x = modulated(x, shift, scale)
        return self.conv_out(nnf.silu(x), cache)


def in_pieces(
    part: nn.Module, chunks: Iterable[tuple[Tensor, bool]], time: Tensor, cache: ConvCache, most: int
) -> Iterator[tuple[Tensor, bool]]:
    """Run a part of the decoder over (chunk, is it the last) and yield its output, at most `most` frames at a time."""
    for x, last in chunks:
        cache.last = last
        out = part(x, time, cache)
        *pieces, end = out.split(most or max(1, out.shape[1]), 1)
        yield from ((piece, False) for piece in pieces)
        if last or end.shape[1]:
            yield end, last


def keyed_noise(layer: int, height: int, width: int) -> Tensor:
    """Return the noise (H, W) that a layer of the decoder injects, the same in every frame and every video."""
    return CounterNoise()([NoiseKey("inject", 0, 0, 0, draw=layer)], (1, height, width))[0, 0, 0]


class LTXVAE(nn.Module):
    """A `VAE`: frames in [-1, 1] to latents of about unit variance, and back.

    `encode`, `decode` and `decoder` work latent by latent with cached state, so memory does not grow with the clip, and a
    stream is bit-equal to decoding at once because both take the same steps. `moments` and `decode_whole` process a whole
    clip at once, for training; they agree with the others up to rounding.

    The decoder is a last step of denoising. timestep: the one that it is conditioned on; its latents should hold about half
    as much noise, in normalised space (`LatentDecoding.noise_sigma`; diffusers mixes it in raw space, which equals mixing
    with `normalise(noise)` here). noise: the source of the noise that the layers of 0.9.1 inject (None: none).
    """

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: LTXVAEConfig, timestep: float = 0.05, noise: NoiseSource | None = keyed_noise):
        super().__init__()
        self.config, self.timestep, self.noise = config, timestep, noise
        self.temporal_compression, self.spatial_compression, self.channels = (
            config.temporal_compression,
            config.spatial_compression,
            config.latent_channels,
        )
        self.lag, self.replay_latents = config.decoder.lag, config.decoder.replay_latents
        self.encoder = Encoder(config)
        self._modules["decoder"] = DecoderNet(config)  # its name among the weights is hidden by the method `decoder`
        self.register_buffer("latents_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latents_std", torch.ones(config.latent_channels))

    @property
    def denoises(self) -> bool:
        """Whether the decoder is the last step of denoising, and takes the sigma of its latents."""
        return self.config.decoder.timestep_conditioning

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames (B, 3, T, H, W), T = 1 + temporal_compression * k -> normalised latents (B, Z, F, h, w) (the mode)."""
        return self.normalise(self._streamed(frames)[0])

    @torch.no_grad()
    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (B, Z, F, h, w) of the normalised latents of frames (B, 3, T, H, W)."""
        mean, log_variance = self._streamed(frames)
        deviation = (log_variance.clamp(-30, 20) / 2).exp()
        return self.normalise(mean), deviation / self.latents_std[:, None, None, None].to(deviation)

    def _streamed(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `moments` does, latent by latent."""
        check_whole_latents(frames, self)
        cache, bounds = ConvCache(), [0, *range(1, frames.shape[2] + 1, self.temporal_compression)]
        parts = [self.encoder(self._patch(frames[:, :, start:stop]), cache) for start, stop in pairwise(bounds)]
        return self._moments(torch.cat(parts, 1))

    def moments(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, Z, F, h, w) and log variance (B, 1, F, h, w) of the posterior, not normalised, of a whole clip."""
        check_whole_latents(frames, self)
        return self._moments(self.encoder(self._patch(frames), ConvCache(last=True)))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents (B, Z, F, h, w) -> frames (B, 3, T, H, W), unclamped, as the streaming decoder does."""
        decoder = self.decoder()
        return torch.cat((decoder.push(latents), decoder.flush()), 2)

    def decode_whole(self, latents: Tensor, timestep: Tensor | None = None) -> Tensor:
        """Decode a whole clip at once, for training, where every video may have its own timestep (B,)."""
        cache = ConvCache(last=True, noise=self.noise)
        time = self._time(latents) if timestep is None else timestep
        return self._unpatch(torch.cat(list(self._net(self._raw(latents), time, cache)), 1))

    def decoder(self) -> LTXDecoder:
        """Return a new streaming decoder."""
        return LTXDecoder(self)

    def normalise(self, mean: Tensor) -> Tensor:
        """Normalise posterior means (B, Z, F, h, w) to zero mean and unit variance per channel."""
        return (mean - self.latents_mean[:, None, None, None].to(mean)) / self.latents_std[:, None, None, None].to(mean)

    def step(self, latents: Tensor, cache: ConvCache) -> Tensor:
        """Return the frames (B, 3, T, H, W) that some latents (or none, at the end of the stream) complete."""
        time, most = self._time(latents), self.temporal_compression
        pieces = [self._unpatch(x) for x in self._net(self._raw(latents), time, cache, most)]
        batch, _, _, height, width = latents.shape
        none = latents.new_empty(
            batch, self.config.out_channels, 0, height * self.spatial_compression, width * self.spatial_compression
        )
        return torch.cat(pieces, 2) if pieces else none

    @property
    def _net(self) -> DecoderNet:
        return self._modules["decoder"]  # type: ignore[return-value]

    def _time(self, latents: Tensor) -> Tensor:
        return torch.full((len(latents),), self.timestep, device=latents.device, dtype=wide(latents).dtype)

    def _raw(self, latents: Tensor) -> Tensor:
        """Undo the normalisation of latents, channels last."""
        latents, mean, std = wide(latents), self.latents_mean, self.latents_std
        raw = latents * std[:, None, None, None].to(latents) + mean[:, None, None, None].to(latents)
        return raw.to(self.encoder.conv_in.conv.weight.dtype).permute(0, 2, 3, 4, 1)

    @staticmethod
    def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
        x = wide(x).permute(0, 4, 1, 2, 3)
        return x[:, :-1], x[:, -1:]

    def _patch(self, frames: Tensor) -> Tensor:
        return fold_patches(frames.to(self.encoder.conv_in.conv.weight.dtype), self.config.patch_size)

    def _unpatch(self, x: Tensor) -> Tensor:
        return join_patches(unfold_patches(x, self.config.patch_size))


class LTXDecoder:
    """A streaming `Decoder` of one clip. A shallow copy continues on its own."""

    def __init__(self, vae: LTXVAE):
        self._vae, self.cache = vae, ConvCache(noise=vae.noise)
        self._none = torch.empty(1, vae.channels, 0, 0, 0)

    @torch.no_grad()
    def push(self, latents: Tensor) -> Tensor:
        """Decode the next latents (B, Z, F, h, w) -> the frames (B, 3, T, H, W) that they complete, unclamped."""
        self._none = latents[:, :, :0]
        return torch.cat([self._vae.step(latent, self.cache) for latent in latents.split(1, 2)], 2)

    @torch.no_grad()
    def flush(self) -> Tensor:
        """Return the frames that are still withheld at the end of the clip (vae.lag of them, if there are so many)."""
        if not self._none.shape[3]:
            return self._none.new_empty(1, self._vae.config.out_channels, 0, 0, 0)
        self.cache.last = True
        return self._vae.step(self._none, self.cache)

    def to(self, device: str) -> None:
        """Move the state of the stream, which can then only continue where the VAE is."""
        self.cache = self.cache.to(device)

    def __copy__(self) -> LTXDecoder:
        twin = LTXDecoder(self._vae)
        twin.cache, twin._none = self.cache.copy(), self._none
        return twin


@torch.no_grad()
def initialise(vae: LTXVAE) -> None:
    """Initialise for training from scratch: residual blocks pass their input on, posteriors are narrow."""
    for module in vae.modules():
        if isinstance(module, Residual):
            nn.init.zeros_(module.conv2.conv.weight)
            nn.init.zeros_(module.conv2.conv.bias)  # type: ignore[arg-type]
    head = vae.encoder.conv_out.conv
    nn.init.zeros_(head.weight[-1])
    nn.init.constant_(head.bias[-1], -5.0)  # type: ignore[index]
