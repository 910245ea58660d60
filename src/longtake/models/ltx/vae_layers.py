"""The layers of the LTX VAE as streams, on tensors (B, T, H, W, C), channels last.

Every layer takes a chunk of frames and returns those that are complete: a causal convolution returns as many as it gets,
one that needs the next frame lags by one. A whole clip is a stream of one chunk that is also the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

NoiseSource = Callable[[int, int, int], Tensor]  # (number of the layer, H, W) -> noise (H, W)


@dataclass
class ConvCache:
    """The state of one stream. last: whether the current chunk is its end.

    frames: the last inputs of every convolution. waiting: frames of a shortcut whose branch lags. begun: resamplers that
    have processed the first frame. kernels: reshaped once for the stream. noise: the source of injected noise (None:
    none). injected_noise: what it returned.
    """

    last: bool = False
    noise: NoiseSource | None = None
    frames: dict[nn.Module, Tensor] = field(default_factory=dict)
    waiting: dict[nn.Module, Tensor] = field(default_factory=dict)
    begun: set[nn.Module] = field(default_factory=set)
    kernels: dict[nn.Module, Tensor] = field(default_factory=dict)
    injected_noise: dict[nn.Parameter, Tensor] = field(default_factory=dict)

    def copy(self) -> ConvCache:
        """Return a copy that continues on its own; tensors are never changed in place."""
        own = {name: getattr(self, name).copy() for name in ("frames", "waiting", "begun", "kernels", "injected_noise")}
        return replace(self, **own)

    def to(self, device: str) -> ConvCache:
        """Return the state on another device; reshaped kernels are made again there."""
        return replace(
            self.copy(),
            frames={layer: x.to(device) for layer, x in self.frames.items()},
            waiting={layer: x.to(device) for layer, x in self.waiting.items()},
            injected_noise={scale: x.to(device) for scale, x in self.injected_noise.items()},
            kernels={},
        )

    def delayed(self, layer: nn.Module, x: Tensor, count: int) -> Tensor:
        """Append x to the waiting frames of a shortcut and return the next `count` of them."""
        x = torch.cat((self.waiting[layer], x), 1) if layer in self.waiting else x
        if count < x.shape[1]:
            self.waiting[layer] = x[:, count:].clone()
        else:
            self.waiting.pop(layer, None)
        return x[:, :count]

    def first(self, layer: nn.Module, x: Tensor) -> bool:
        """Whether x has the first frame that the layer processes."""
        if layer in self.begun or not x.shape[1]:
            return False
        self.begun.add(layer)
        return True

    def injected(self, scale: nn.Parameter, x: Tensor) -> Tensor:
        """Add one image of noise to all frames of x, scaled per channel."""
        if self.noise is None:
            return x
        if scale not in self.injected_noise:
            self.injected_noise[scale] = self.noise(len(self.injected_noise), x.shape[2], x.shape[3]).to(x)
        return x + self.injected_noise[scale][..., None] * scale.flatten()


class Conv(nn.Module):
    """A 3x3x3 convolution over a frame and the two before it, or one on either side (ahead = 1).

    The first and the last frame are padded with copies.
    """

    def __init__(self, dim: int, out: int, ahead: int, stride: int = 1):
        super().__init__()
        self.ahead, self.stride = ahead, stride
        self.conv = nn.Conv3d(dim, out, 3, stride, padding=(0, 1, 1))

    def forward(self, x: Tensor, cache: ConvCache) -> Tensor:
        """Return the output of all complete frames (B, T', H', W', C); the cache keeps the others."""
        x = self.with_context(x, cache)
        count = max(0, (x.shape[1] - 3) // self.stride + 1)
        cache.frames[self] = x[:, count * self.stride :].clone()
        if not count:
            height, width = (-(-size // self.stride) for size in x.shape[2:4])
            return x.new_empty(len(x), 0, height, width, self.conv.out_channels)
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            return self._folded(x, count, cache)
        out = nnf.conv3d(
            x.permute(0, 4, 1, 2, 3), self.conv.weight, self.conv.bias, self.conv.stride, self.conv.padding
        )
        return out.permute(0, 2, 3, 4, 1)

    def with_context(self, x: Tensor, cache: ConvCache) -> Tensor:
        """Return x with the cached frames before it, and with padding if this is the end of the stream."""
        cached = cache.frames.get(self)
        before = [x[:, :1]] * (2 - self.ahead) if cached is None or not cached.shape[1] else [cached]
        x = torch.cat((*before, x), 1)
        return torch.cat((x, x[:, -1:]), 1) if cache.last and self.ahead else x

    def _folded(self, x: Tensor, count: int, cache: ConvCache) -> Tensor:
        """Compute the same as a 2D convolution over the channels of three frames: two to three times faster on a CPU."""
        if self not in cache.kernels:
            kernel = self.conv.weight.transpose(1, 2).flatten(1, 2)
            cache.kernels[self] = kernel.contiguous(memory_format=torch.channels_last)
        step = self.stride
        taps = torch.cat([x[:, tap : tap + step * (count - 1) + 1 : step] for tap in range(3)], -1)
        images = taps.flatten(0, 1).permute(0, 3, 1, 2)
        out = nnf.conv2d(images, cache.kernels[self], self.conv.bias, step, padding=1)
        return out.permute(0, 2, 3, 1).unflatten(0, (len(x), count))


class Pointwise(nn.Module):
    """A 1x1x1 convolution."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.conv = nn.Conv3d(dim, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nnf.linear(x, self.conv.weight.flatten(1), self.conv.bias)


def norm(x: Tensor) -> Tensor:
    """Apply pixel norm: RMS norm over the channels, without weights."""
    return nnf.rms_norm(x, x.shape[-1:], eps=1e-8)


class Mlp(nn.Module):
    """Two linear layers with the names of diffusers."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(dim, out), nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(nnf.silu(self.linear_1(x.to(self.linear_1.weight.dtype))))


class TimeEmbedder(nn.Module):
    """Embeds a timestep: (B,) to (B, dim)."""

    def __init__(self, dim: int):
        super().__init__()
        self.timestep_embedder = Mlp(256, dim)

    def forward(self, time: Tensor) -> Tensor:
        frequency = torch.exp(torch.arange(128, device=time.device) * (-math.log(10000.0) / 128))
        angle = time[:, None].float() * frequency
        return self.timestep_embedder(torch.cat((angle.cos(), angle.sin()), -1))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Compute x * (1 + scale) + shift, with shift and scale (B, C)."""
    return x * (1 + scale[:, None, None, None]) + shift[:, None, None, None]


class Residual(nn.Module):
    """A residual block: norm, SiLU and convolution, twice, with shift and scale by the decoder's timestep."""

    def __init__(self, dim: int, out: int, ahead: int, eps: float, timed: bool = False, noisy: bool = False):
        super().__init__()
        self.conv1, self.conv2 = Conv(dim, out, ahead), Conv(out, out, ahead)
        self.norm3 = nn.LayerNorm(dim, eps) if dim != out else nn.Identity()
        self.conv_shortcut = Pointwise(dim, out) if dim != out else nn.Identity()
        if noisy:
            self.per_channel_scale1 = nn.Parameter(torch.zeros(dim, 1, 1))
            self.per_channel_scale2 = nn.Parameter(torch.zeros(dim, 1, 1))
        if timed:
            self.scale_shift_table = nn.Parameter(torch.randn(4, dim) / dim**0.5)
        self.timed, self.noisy = timed, noisy

    def forward(self, x: Tensor, time: Tensor | None, cache: ConvCache) -> Tensor:
        """Run the block. time: (B, 4 * dim) if the layer takes the timestep."""
        h = norm(x)
        if self.timed and time is not None:
            shift1, scale1, shift2, scale2 = (self.scale_shift_table + time.unflatten(1, (4, -1))).unbind(1)
            h = modulated(h, shift1, scale1)
        h = self.conv1(nnf.silu(h), cache)
        if self.noisy:
            h = cache.injected(self.per_channel_scale1, h)
        h = norm(h)
        if self.timed and time is not None:
            h = modulated(h, shift2, scale2)
        h = self.conv2(nnf.silu(h), cache)
        if self.noisy:
            h = cache.injected(self.per_channel_scale2, h)
        return h + self.conv_shortcut(self.norm3(cache.delayed(self, x, h.shape[1])))


class Down(nn.Module):
    """Downsampling by folding space and time into channels after a convolution, plus a mean shortcut (0.9.5)."""

    def __init__(self, dim: int, out: int, stride: tuple[int, int, int]):
        super().__init__()
        self.stride, self.out = stride, out
        self.conv = Conv(dim, out // math.prod(stride), ahead=0)

    def forward(self, x: Tensor, cache: ConvCache) -> Tensor:
        if self.stride[0] > 1 and cache.first(self, x):
            x = torch.cat((x[:, :1], x), 1)
        h = self.conv(x, cache)
        return self._folded(h) + self._folded(x).unflatten(-1, (self.out, -1)).mean(-1)

    def _folded(self, x: Tensor) -> Tensor:
        t, p, q = self.stride
        x = x.unflatten(3, (-1, q)).unflatten(2, (-1, p)).unflatten(1, (-1, t))  # B T t H p W q C
        return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(4)


class Up(nn.Module):
    """Upsampling by spreading channels over twice the frames, rows and columns; the first frame is dropped.

    factor: by how much the channels shrink. residual: the input is spread as well and added.
    """

    def __init__(self, dim: int, factor: int, residual: bool):
        super().__init__()
        self.residual, self.repeats = residual, 8 // factor
        self.conv = Conv(dim, dim * 8 // factor, ahead=1)

    def forward(self, x: Tensor, cache: ConvCache) -> Tensor:
        h = self.conv(x, cache)
        out = self._spread(h)
        if self.residual:
            out = out + self._spread(cache.delayed(self, x, h.shape[1])).repeat(1, 1, 1, 1, self.repeats)
        return out[:, 1:] if cache.first(self, out) else out

    def _spread(self, x: Tensor) -> Tensor:
        batch, time, height, width, dim = x.shape
        x = x.reshape(batch, time, height, width, dim // 8, 2, 2, 2).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(batch, 2 * time, 2 * height, 2 * width, dim // 8)


class DownBlock(nn.Module):
    """Residual blocks, then downsampling; in 0.9.0 and 0.9.1 a last block changes the width."""

    def __init__(self, dim: int, out: int, count: int, eps: float, down: Conv | Down | None):
        super().__init__()
        self.resnets = nn.ModuleList(Residual(dim, dim, 0, eps) for _ in range(count))
        self.downsamplers = nn.ModuleList([down] if down is not None else [])
        self.conv_out = Residual(dim, out, 0, eps) if dim != out and not isinstance(down, Down) else None

    def forward(self, x: Tensor, cache: ConvCache) -> Tensor:
        for layer in self.resnets:
            x = layer(x, None, cache)
        for layer in self.downsamplers:
            x = layer(x, cache)
        return x if self.conv_out is None else self.conv_out(x, None, cache)


class Stage(nn.Module):
    """Residual blocks of one width, after an optional change of width and an optional upsampling."""

    def __init__(
        self, dim: int, out: int, count: int, eps: float, ahead: int,
        up: Up | None = None, timed: bool = False, noisy: bool = False,
    ):  # fmt: skip
        super().__init__()
        if timed and dim != out:
            raise ValueError(
                f"a decoder with timesteps can change from {dim} to {out} channels only by upsample_factor"
            )
        self.time_embedder = TimeEmbedder(4 * dim) if timed else None
        self.conv_in = Residual(dim, out, ahead, eps, noisy=noisy) if dim != out else None
        self.upsamplers = nn.ModuleList([up] if up is not None else [])
        self.resnets = nn.ModuleList(Residual(out, out, ahead, eps, timed, noisy) for _ in range(count))

    def forward(self, x: Tensor, time: Tensor | None, cache: ConvCache) -> Tensor:
        """Run the stage. time: (B,), for a decoder with timesteps."""
        if self.conv_in is not None:
            x = self.conv_in(x, None, cache)
        for layer in self.upsamplers:
            x = layer(x, cache)
        code = None if self.time_embedder is None or time is None else self.time_embedder(time)
        for layer in self.resnets:
            x = layer(x, code, cache)
        return x
