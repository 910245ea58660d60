"""The Wan video codec: causal in time, latent 0 holds one frame, every later one `stride` frames; streams both ways.

Weight names are those of diffusers' AutoencoderKLWan. Shapes: B videos, T frames, F latent frames, Z latent channels,
H W pixels, h w latent pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models import weights
from longtake.models.wan_codec_layers import (
    Attention,
    Carry,
    Conv,
    Down,
    Middle,
    Norm,
    Pointwise,
    Residual,
    TimeConv,
    Up,
    UpBlock,
)

WAN_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True)
class WanCodecConfig:
    """Shape of a codec; the names are those of diffusers' config.json.

    temperal_downsample tells for every level but the last whether it halves time as well as space. A patch_size
    folds patches of that size into channels first; in_channels and out_channels count them.
    """

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    dropout: float = 0.0
    latents_mean: tuple[float, ...] = WAN_MEAN
    latents_std: tuple[float, ...] = WAN_STD
    is_residual: bool = False
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int | None = None
    scale_factor_temporal: int = 4
    scale_factor_spatial: int = 8

    def __post_init__(self):
        for name in ("dim_mult", "attn_scales", "temperal_downsample", "latents_mean", "latents_std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.is_residual:
            raise ValueError("is_residual codecs (Wan 2.2, 5B) are not supported; use the codec of Wan 2.1")
        if len(self.temperal_downsample) != len(self.dim_mult) - 1:
            raise ValueError(
                f"temperal_downsample has {len(self.temperal_downsample)} entries, "
                f"but {len(self.dim_mult)} levels need {len(self.dim_mult) - 1}"
            )
        if not len(self.latents_mean) == len(self.latents_std) == self.z_dim:
            raise ValueError(f"latents_mean and latents_std need one number for each of the {self.z_dim} channels")
        channels = 3 * (self.patch_size or 1) ** 2
        if self.in_channels != channels or self.out_channels != channels:
            raise ValueError(f"patch_size {self.patch_size} makes {channels} channels, in and out, of three colours")

    @property
    def stride(self) -> int:
        """Frames per latent after the first."""
        return 2 ** sum(self.temperal_downsample)

    @property
    def scale(self) -> int:
        """Pixels per latent pixel, each way."""
        return 2 ** (len(self.dim_mult) - 1) * (self.patch_size or 1)

    @property
    def reach(self) -> int:
        """Latents that, replayed into a new decoder, leave every carry as a decoder that saw the whole take has it.

        `stale` counts the frames at the start of the replay that differ, at the rate of the layer reached so far:
        each causal convolution adds 2, and doubling time turns frames 0..k into 0..2k. All layers are restored once
        the last two inputs of each lie beyond them.
        """
        convs = 2 * (self.num_res_blocks + 1)
        stale, rate, need = 2 * (1 + 4), 1, 0  # conv_in and the four convolutions of the middle
        for doubles in (*reversed(self.temperal_downsample), False):
            stale += 2 * convs
            need = max(need, 1 + math.ceil((stale + 1) / rate))
            if doubles:
                stale, rate = 2 * (stale + 2) - 1, 2 * rate
        return need


def up_block(match: re.Match) -> str:
    """The original decoder counts residual blocks and upsamplers of all levels in one row: three and one per level."""
    level, place = divmod(int(match[1]), 4)
    return f"decoder.up_blocks.{level}." + ("upsamplers.0." if place == 3 else f"resnets.{place}.")


NAMES: weights.Names = (  # original Wan 2.1 and ComfyUI files to diffusers; its own names pass unchanged
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^((en|de)coder)\.conv1\.", r"\1.conv_in."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.downsamples\.", ".down_blocks."),
    (r"^decoder\.upsamples\.(\d+)\.", up_block),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)


def load(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> WanCodec:
    """The codec of a folder with config.json and safetensors."""
    return weights.load(WanCodec, weights.configure(WanCodecConfig, folder), folder, NAMES, dtype, device)


def tiny(**changes: Any) -> WanCodecConfig:
    """The config of a codec for tests: 4x4 space, 4x time, 3 channels."""
    small: dict[str, Any] = dict(
        base_dim=4, z_dim=3, dim_mult=(1, 2, 2), num_res_blocks=1, temperal_downsample=(True, True),
        latents_mean=(0.1, -0.2, 0.3), latents_std=(0.5, 1.5, 2.5), scale_factor_spatial=4,
    )  # fmt: skip
    return WanCodecConfig(**(small | changes))


class Encoder(nn.Module):
    """Patched frames (B, T, H, W, C) to the moments of latents (B, F, h, w, 2Z)."""

    def __init__(self, config: WanCodecConfig):
        super().__init__()
        widths = [config.base_dim * mult for mult in (1, *config.dim_mult)]
        self.conv_in = Conv(config.in_channels, widths[0])
        self.down_blocks = nn.ModuleList()
        for level, (dim, out) in enumerate(pairwise(widths)):
            for i in range(config.num_res_blocks):
                self.down_blocks.append(Residual(dim if i == 0 else out, out))
                if 0.5**level in config.attn_scales:
                    self.down_blocks.append(Attention(out))
            if level < len(config.temperal_downsample):
                self.down_blocks.append(Down(out, config.temperal_downsample[level]))
        self.mid_block = Middle(widths[-1])
        self.norm_out, self.conv_out = Norm(widths[-1], 3), Conv(widths[-1], 2 * config.z_dim)

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:
        x = self.conv_in(x, carry)
        for layer in (*self.down_blocks, self.mid_block):
            x = layer(x, carry)
        return self.conv_out(nnf.silu(self.norm_out(x)), carry)


class DecoderNet(nn.Module):
    """Latents (B, F, h, w, Z) to patched frames (B, T, H, W, C)."""

    def __init__(self, config: WanCodecConfig):
        super().__init__()
        base = config.decoder_base_dim or config.base_dim
        widths = [base * mult for mult in (config.dim_mult[-1], *reversed(config.dim_mult))]
        doubles = config.temperal_downsample[::-1]
        self.conv_in = Conv(config.z_dim, widths[0])
        self.mid_block = Middle(widths[0])
        self.up_blocks = nn.ModuleList()
        for level, (dim, out) in enumerate(pairwise(widths)):
            up = Up(out, doubles[level]) if level < len(doubles) else None
            self.up_blocks.append(UpBlock(dim if level == 0 else dim // 2, out, config.num_res_blocks + 1, up))
        self.norm_out, self.conv_out = Norm(widths[-1], 3), Conv(widths[-1], config.out_channels)

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:
        x = self.mid_block(self.conv_in(x, carry), carry)
        for block in self.up_blocks:
            x = block(x, carry)
        return self.conv_out(nnf.silu(self.norm_out(x)), carry)


class WanCodec(nn.Module):
    """Frames in [-1, 1] to latents of about unit variance, and back.

    `encode`, `decode` and `decoder` go latent by latent with carried state, so that memory does not grow with the
    clip, and a stream is bit-equal to one shot because both take the very same steps. `moments` and `decode_whole`
    see a whole clip at once, for training; they agree with the others up to rounding. On a CPU without bfloat16
    units keep the weights in float32: bfloat16 is six times slower there.
    """

    def __init__(self, config: WanCodecConfig):
        super().__init__()
        self.config = config
        self.folds: bool | None = None
        self.stride, self.scale, self.channels, self.reach = config.stride, config.scale, config.z_dim, config.reach
        self.encoder = Encoder(config)
        self.quant_conv = Pointwise(2 * config.z_dim, 2 * config.z_dim)
        self.post_quant_conv = Pointwise(config.z_dim, config.z_dim)
        self._modules["decoder"] = DecoderNet(config)  # its name among the weights is hidden by the method `decoder`

    @property
    def decoder_net(self) -> DecoderNet:
        """The network behind `decode` and `decoder`."""
        return cast(DecoderNet, self._modules["decoder"])

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B 3 T H W), T = 1 + stride * k -> normalised latents (B Z F h w), the mode of the posterior."""
        self._check(frames)
        carry, bounds = self.carry(), [0, *range(1, frames.shape[2] + 1, self.stride)]
        parts = [self.encoder(self._patch(frames[:, :, start:stop]), carry) for start, stop in pairwise(bounds)]
        return self.normalise(self._moments(torch.cat(parts, 1))[0])

    def moments(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B Z F h w each) of the posterior, not normalised; the whole clip at once."""
        self._check(frames)
        return self._moments(self.encoder(self._patch(frames), None))

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B Z F h w) -> frames (B 3 T H W), unclamped, by the steps of the streaming decoder."""
        return self._joined(self._frames(latents, self.carry()))

    def decode_whole(self, latents: Tensor) -> Tensor:
        """`decode`, but of the whole clip at once; for training."""
        return self._joined([self._decode(latents, None)])

    def carry(self) -> Carry:
        """A new stream. Convolutions are folded where that is faster, unless `folds` says whether they are."""
        return Carry(folds=self.quant_conv.weight.device.type == "cpu" if self.folds is None else self.folds)

    def decoder(self) -> WanDecoder:
        """A new streaming decoder."""
        return WanDecoder(self)

    def normalise(self, mean: Tensor) -> Tensor:
        """Posterior means (B Z F h w) to latents of zero mean and unit variance."""
        return (mean - per_channel(mean, self.config.latents_mean)) / per_channel(mean, self.config.latents_std)

    def _decode(self, latents: Tensor, carry: Carry | None) -> Tensor:
        """Latents (B Z F h w) -> frames as `_unpatch` gives them."""
        latents = wide(latents)
        z = latents * per_channel(latents, self.config.latents_std) + per_channel(latents, self.config.latents_mean)
        x = self.post_quant_conv(z.to(self.post_quant_conv.weight.dtype).permute(0, 2, 3, 4, 1))
        return self._unpatch(self.decoder_net(x, carry))

    def _frames(self, latents: Tensor, carry: Carry) -> Iterator[Tensor]:
        return (self._decode(latent, carry) for latent in latents.split(1, 2))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = wide(self.quant_conv(x)).permute(0, 4, 1, 2, 3).chunk(2, 1)
        return mean, logvar

    def _patch(self, frames: Tensor) -> Tensor:
        """(B 3 T H W) -> (B T h w C), channels ordered colour, column, row."""
        p = self.config.patch_size or 1
        x = frames.to(self.quant_conv.weight.dtype).unflatten(4, (-1, p)).unflatten(3, (-1, p))  # B 3 T h row w column
        return x.permute(0, 2, 3, 5, 1, 6, 4).flatten(4)

    def _unpatch(self, x: Tensor) -> Tensor:
        """Undo `_patch`, but for joining rows and columns: a view (B 3 T h row w column)."""
        p = self.config.patch_size or 1
        return wide(x).unflatten(4, (-1, p, p)).permute(0, 4, 1, 2, 6, 3, 5)

    def _joined(self, parts: Iterable[Tensor]) -> Tensor:
        """Parts of a video (B 3 T h row w column) as frames (B 3 T H W); every pixel is copied once."""
        return torch.cat(list(parts), 2).flatten(5).flatten(3, 4)

    def _check(self, frames: Tensor) -> None:
        count, height, width = frames.shape[2:]
        if (count - 1) % self.stride:
            near = 1 + (count - 1) // self.stride * self.stride
            raise ValueError(
                f"{count} frames do not fill latents; the codec takes 1 + {self.stride} * k, such as {near}"
            )
        if height % self.scale or width % self.scale:
            raise ValueError(f"frames of {height}x{width} do not divide by {self.scale}")


class WanDecoder:
    """One take on its way through the decoder. A shallow copy goes on by itself."""

    def __init__(self, codec: WanCodec):
        self._codec, self._carry = codec, codec.carry()
        self._none = torch.empty(1, 3, 0, 0, 0)

    @torch.no_grad()
    def push(self, latents: Tensor) -> Tensor:
        """Latents (B Z F h w), in order -> frames (B 3 T H W), unclamped: one of latent 0, `stride` of every other."""
        frames = self._codec._joined(self._codec._frames(latents, self._carry))
        self._none = frames[:, :, :0].clone()
        return frames

    def flush(self) -> Tensor:
        """No frame is ever held back."""
        return self._none

    def to(self, device: str) -> None:
        """Move what it remembers; it can then only go on where the codec is."""
        self._carry = Carry(
            {layer: past.to(device) for layer, past in self._carry.frames.items()}, {}, self._carry.folds
        )

    def __copy__(self) -> WanDecoder:
        twin = WanDecoder(self._codec)
        twin._carry, twin._none = self._carry.copy(), self._none
        return twin


def wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def per_channel(x: Tensor, numbers: Sequence[float]) -> Tensor:
    """One number per channel of x (B Z F h w)."""
    return x.new_tensor(numbers)[:, None, None, None]


@torch.no_grad()
def initialise(codec: WanCodec) -> None:
    """A start from which a codec can learn time: frames pass the time convolutions unchanged, posteriors are narrow."""
    for module in codec.modules():
        if isinstance(module, TimeConv):
            for weight in module.parameters():
                weight.zero_()
            for half in module.weight.split(module.in_channels):
                half[:, :, -1, 0, 0] = torch.eye(module.in_channels)
    nn.init.constant_(cast(Tensor, codec.quant_conv.bias)[codec.channels :], -5.0)
