"""The LTX video codec: a causal encoder, a decoder that looks ahead; both stream in constant memory.

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

from longtake.models import weights
from longtake.models.ltx_codec_config import STRIDES, LTXCodecConfig
from longtake.models.ltx_codec_layers import (
    Carry,
    Conv,
    Down,
    DownBlock,
    Grain,
    Residual,
    Stage,
    TimeEmbedder,
    Up,
    modulated,
    norm,
)
from longtake.noise import Keyed, Spot


def load(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> LTXCodec:
    """The codec of a folder with config.json and safetensors."""
    return weights.load(LTXCodec, weights.configure(LTXCodecConfig, folder), folder, (), dtype, device)


class Encoder(nn.Module):
    """Patched frames (B, T, H, W, C) to means and a log variance of latents (B, F, h, w, Z + 1)."""

    def __init__(self, config: LTXCodecConfig):
        super().__init__()
        widths, eps = config.widths, config.resnet_norm_eps
        self.conv_in = Conv(config.in_channels * config.patch_size**2, widths[0], ahead=0)
        self.down_blocks = nn.ModuleList(
            DownBlock(dim, out, config.layers_per_block[i], eps, self._down(config, i, dim, out))
            for i, (dim, out) in enumerate(pairwise(widths))
        )
        self.mid_block = Stage(widths[-1], widths[-1], config.layers_per_block[-1], eps, ahead=0)
        self.conv_out = Conv(widths[-1], config.latent_channels + 1, ahead=0)

    @staticmethod
    def _down(config: LTXCodecConfig, i: int, dim: int, out: int) -> Conv | Down | None:
        if not config.spatio_temporal_scaling[i]:
            return None
        if not config.grown or config.downsample_type[i] == "conv":
            return Conv(dim, dim, ahead=0, stride=2)
        return Down(dim, out, STRIDES[config.downsample_type[i]])

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        x = self.conv_in(x, carry)
        for block in self.down_blocks:
            x = block(x, carry)
        return self.conv_out(nnf.silu(norm(self.mid_block(x, None, carry))), carry)


class DecoderNet(nn.Module):
    """Latents (B, F, h, w, Z) to patched frames (B, T, H, W, C)."""

    def __init__(self, config: LTXCodecConfig):
        super().__init__()
        layers, noisy = config.decoder_layers_per_block[::-1], config.decoder_inject_noise[::-1]
        doubles, residual = config.decoder_spatio_temporal_scaling[::-1], config.upsample_residual[::-1]
        first, eps, timed = config.decoder_block_out_channels[-1], config.resnet_norm_eps, config.timestep_conditioning
        self.conv_in = Conv(config.latent_channels, first, ahead=1)
        self.mid_block = Stage(first, first, layers[0], eps, 1, None, timed, noisy[0])
        self.up_blocks = nn.ModuleList(
            Stage(
                dim, out, layers[i + 1], eps, 1, Up(out * factor, factor, residual[i]) if doubles[i] else None,
                timed, noisy[i + 1],
            )
            for i, (dim, out, factor) in enumerate(config.stages)
        )  # fmt: skip
        last = config.stages[-1][1]
        self.conv_out = Conv(last, config.out_channels * config.patch_size**2, ahead=1)
        self.time_embedder = TimeEmbedder(2 * last) if timed else None
        if timed:
            self.timestep_scale_multiplier = nn.Parameter(torch.tensor(1000.0))
            self.scale_shift_table = nn.Parameter(torch.randn(2, last) / last**0.5)

    def forward(self, x: Tensor, time: Tensor, carry: Carry, most: int = 0) -> Iterator[Tensor]:
        """The frames that x (the end of the stream, if carry.last) completes, at most `most` at a time (0: all).

        time: (B,) in [0, 1]. The end is handed from part to part in pieces, so that it needs no more memory than
        the middle.
        """
        if self.time_embedder is not None:
            time = time * self.timestep_scale_multiplier
        pieces: Iterable[tuple[Tensor, bool]] = [(x, carry.last)]
        for part in (self._enter, *self.up_blocks, self._leave):
            pieces = in_pieces(part, pieces, time, carry, most)
        return (piece for piece, _ in pieces)

    def _enter(self, x: Tensor, time: Tensor, carry: Carry) -> Tensor:
        return self.mid_block(self.conv_in(x, carry), time, carry)

    def _leave(self, x: Tensor, time: Tensor, carry: Carry) -> Tensor:
        x = norm(x)
        if self.time_embedder is not None:
            shift, scale = (self.scale_shift_table + self.time_embedder(time).unflatten(1, (2, -1))).unbind(1)
            x = modulated(x, shift, scale)
        return self.conv_out(nnf.silu(x), carry)


def in_pieces(
    part: nn.Module, chunks: Iterable[tuple[Tensor, bool]], time: Tensor, carry: Carry, most: int
) -> Iterator[tuple[Tensor, bool]]:
    """What a part of the decoder makes of chunks, each with whether it is the last: at most `most` frames at a time."""
    for x, last in chunks:
        carry.last = last
        out = part(x, time, carry)
        *pieces, end = out.split(most or max(1, out.shape[1]), 1)
        yield from ((piece, False) for piece in pieces)
        if last or end.shape[1]:
            yield end, last


def keyed_grain(layer: int, height: int, width: int) -> Tensor:
    """The noise (H, W) that a layer of the decoder injects: the same in every frame and every video."""
    return Keyed()([Spot("inject", 0, 0, 0, draw=layer)], (1, height, width))[0, 0, 0]


class LTXCodec(nn.Module):
    """Frames in [-1, 1] to latents of about unit variance, and back.

    `encode`, `decode` and `decoder` go latent by latent with carried state, so that memory does not grow with the
    clip, and a stream is bit-equal to one shot because both take the very same steps. `moments` and `decode_whole`
    see a whole clip at once, for training; they agree with the others up to rounding.

    The decoder is a last step of denoising: timestep is the one it is told, and the latents that it gets should hold
    about half as much noise, in normalised space (Model.decode_noise; diffusers mixes it in raw space, which is to
    mix with `normalise(noise)` here). grain: where 0.9.1 gets the noise that its layers inject (None: nowhere).
    """

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: LTXCodecConfig, timestep: float = 0.05, grain: Grain | None = keyed_grain):
        super().__init__()
        self.config, self.timestep, self.grain = config, timestep, grain
        self.stride, self.scale, self.channels = config.stride, config.scale, config.latent_channels
        self.lag, self.reach = config.lag, config.reach
        self.encoder = Encoder(config)
        self._modules["decoder"] = DecoderNet(config)  # its name among the weights is hidden by the method `decoder`
        self.register_buffer("latents_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latents_std", torch.ones(config.latent_channels))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B 3 T H W), T = 1 + stride * k -> normalised latents (B Z F h w), the mode of the posterior."""
        self._check(frames)
        carry, bounds = Carry(), [0, *range(1, frames.shape[2] + 1, self.stride)]
        parts = [self.encoder(self._patch(frames[:, :, start:stop]), carry) for start, stop in pairwise(bounds)]
        return self.normalise(self._moments(torch.cat(parts, 1))[0])

    def moments(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B Z F h w) and log variance (B 1 F h w) of the posterior, not normalised; the whole clip at once."""
        self._check(frames)
        return self._moments(self.encoder(self._patch(frames), Carry(last=True)))

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B Z F h w) -> frames (B 3 T H W), unclamped, by the steps of the streaming decoder."""
        decoder = self.decoder()
        return torch.cat((decoder.push(latents), decoder.flush()), 2)

    def decode_whole(self, latents: Tensor, timestep: Tensor | None = None) -> Tensor:
        """`decode`, but of the whole clip at once; for training, where every video may have its own timestep (B,)."""
        carry = Carry(last=True, grain=self.grain)
        time = self._time(latents) if timestep is None else timestep
        return self._unpatch(torch.cat(list(self._net(self._raw(latents), time, carry)), 1))

    def decoder(self) -> LTXDecoder:
        """A new streaming decoder."""
        return LTXDecoder(self)

    def normalise(self, mean: Tensor) -> Tensor:
        """Posterior means (B Z F h w) to latents of zero mean and unit variance."""
        return (mean - self.latents_mean[:, None, None, None].to(mean)) / self.latents_std[:, None, None, None].to(mean)

    def step(self, latents: Tensor, carry: Carry) -> Tensor:
        """The frames (B 3 T H W) that some latents (or none, at the end of the stream) complete."""
        time, most = self._time(latents), self.stride
        pieces = [self._unpatch(x) for x in self._net(self._raw(latents), time, carry, most)]
        batch, _, _, height, width = latents.shape
        none = latents.new_empty(batch, self.config.out_channels, 0, height * self.scale, width * self.scale)
        return torch.cat(pieces, 2) if pieces else none

    @property
    def _net(self) -> DecoderNet:
        return self._modules["decoder"]  # type: ignore[return-value]

    def _time(self, latents: Tensor) -> Tensor:
        return torch.full((len(latents),), self.timestep, device=latents.device, dtype=wide(latents).dtype)

    def _raw(self, latents: Tensor) -> Tensor:
        """Normalised latents to what the decoder takes, channels last."""
        latents, mean, std = wide(latents), self.latents_mean, self.latents_std
        raw = latents * std[:, None, None, None].to(latents) + mean[:, None, None, None].to(latents)
        return raw.to(self.encoder.conv_in.conv.weight.dtype).permute(0, 2, 3, 4, 1)

    @staticmethod
    def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
        x = wide(x).permute(0, 4, 1, 2, 3)
        return x[:, :-1], x[:, -1:]

    def _patch(self, frames: Tensor) -> Tensor:
        """(B 3 T H W) -> (B T h w C), channels ordered colour, column, row."""
        p = self.config.patch_size
        x = frames.to(self.encoder.conv_in.conv.weight.dtype).unflatten(4, (-1, p)).unflatten(3, (-1, p))
        return x.permute(0, 2, 3, 5, 1, 6, 4).flatten(4)  # B 3 T h row w column before

    def _unpatch(self, x: Tensor) -> Tensor:
        """Undo `_patch`."""
        p = self.config.patch_size
        x = wide(x).unflatten(4, (-1, p, p))  # B T h w 3 column row
        return x.permute(0, 4, 1, 2, 6, 3, 5).flatten(5).flatten(3, 4)

    def _check(self, frames: Tensor) -> None:
        count, height, width = frames.shape[2:]
        if (count - 1) % self.stride:
            near = 1 + (count - 1) // self.stride * self.stride
            raise ValueError(
                f"{count} frames do not fill latents; the codec takes 1 + {self.stride} * k, such as {near}"
            )
        if height % self.scale or width % self.scale:
            raise ValueError(f"frames of {height}x{width} do not divide by {self.scale}")


class LTXDecoder:
    """One take on its way through the decoder. A shallow copy goes on by itself."""

    def __init__(self, codec: LTXCodec):
        self._codec, self._carry = codec, Carry(grain=codec.grain)
        self._none = torch.empty(1, codec.channels, 0, 0, 0)

    @torch.no_grad()
    def push(self, latents: Tensor) -> Tensor:
        """Latents (B Z F h w), in order -> the frames (B 3 T H W) that are certain by now, unclamped."""
        self._none = latents[:, :, :0]
        return torch.cat([self._codec.step(latent, self._carry) for latent in latents.split(1, 2)], 2)

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The frames held back (codec.lag of them, if there are so many): nothing comes after them."""
        if not self._none.shape[3]:
            return self._none.new_empty(1, self._codec.config.out_channels, 0, 0, 0)
        self._carry.last = True
        return self._codec.step(self._none, self._carry)

    def __copy__(self) -> LTXDecoder:
        twin = LTXDecoder(self._codec)
        twin._carry, twin._none = self._carry.copy(), self._none
        return twin


def wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


@torch.no_grad()
def initialise(codec: LTXCodec) -> None:
    """A start for training from nothing: every residual block passes its input on, posteriors are narrow."""
    for module in codec.modules():
        if isinstance(module, Residual):
            nn.init.zeros_(module.conv2.conv.weight)
            nn.init.zeros_(module.conv2.conv.bias)  # type: ignore[arg-type]
    head = codec.encoder.conv_out.conv
    nn.init.zeros_(head.weight[-1])
    nn.init.constant_(head.bias[-1], -5.0)  # type: ignore[index]
