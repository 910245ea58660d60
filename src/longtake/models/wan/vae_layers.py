"""The layers of the Wan VAE, causal in time, on tensors (B, T, H, W, C), channels last.

Pointwise layers are matrix products, and 3x3x3 convolutions get the memory layout that is fastest. A `ConvCache` holds the
earlier frames that the causal layers of one stream need; None means a whole clip at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


@dataclass
class ConvCache:
    """The state of one stream: the last inputs of every causal layer, and kernels that were reshaped once for it.

    folds: compute convolutions over time as 2D convolutions over channels, which is faster on a CPU.
    """

    frames: dict[nn.Module, Tensor] = field(default_factory=dict)
    kernels: dict[nn.Module, Tensor] = field(default_factory=dict)
    folds: bool = False

    def copy(self) -> ConvCache:
        """Return a copy that continues on its own; tensors are never changed in place."""
        return ConvCache(dict(self.frames), dict(self.kernels), self.folds)


class Conv(nn.Conv3d):
    """A 3x3x3 convolution over a frame and the two before it."""

    def __init__(self, dim: int, out: int):
        super().__init__(dim, out, 3)

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:  # type: ignore[override]
        x = with_context(self, x, 2, cache)
        if cache is not None and cache.folds:
            return self.folded(x, cache)
        out = nnf.conv3d(x.permute(0, 4, 1, 2, 3), self.weight, self.bias, padding=(0, 1, 1))
        return out.permute(0, 2, 3, 4, 1)

    def folded(self, x: Tensor, cache: ConvCache) -> Tensor:
        """Compute the same as a 2D convolution over the channels of three frames: two to three times faster on a CPU."""
        if self not in cache.kernels:
            kernel = self.weight.transpose(1, 2).flatten(1, 2)
            cache.kernels[self] = kernel.contiguous(memory_format=torch.channels_last)
        out = nnf.conv2d(images(taps(x, 1)), cache.kernels[self], self.bias, padding=1)
        return out.permute(0, 2, 3, 1).unflatten(0, (len(x), -1))


class TimeConv(nn.Conv3d):
    """A 3x1x1 convolution over a frame and the two before it, for every frame or every second one."""

    def __init__(self, dim: int, out: int, stride: int):
        super().__init__(dim, out, (3, 1, 1), (stride, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nnf.linear(taps(x, self.stride[0]), self.weight.transpose(1, 2).flatten(1), self.bias)


class Pointwise(nn.Conv3d):
    """A 1x1x1 convolution."""

    def __init__(self, dim: int, out: int):
        super().__init__(dim, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nnf.linear(x, self.weight.flatten(1), self.bias)


def with_context(layer: nn.Module, x: Tensor, count: int, cache: ConvCache | None) -> Tensor:
    """Prepend the last `count` frames that the layer processed to x; zeros at the start of a stream."""
    before = None if cache is None else cache.frames.get(layer)
    if before is None:
        before = x.new_zeros(len(x), count, *x.shape[2:])
    x = torch.cat((before, x), 1)
    if cache is not None:
        cache.frames[layer] = x[:, -count:].clone()
    return x


def taps(x: Tensor, stride: int) -> Tensor:
    """Stack every three successive frames in the channels: (B, T, H, W, C) -> (B, T', H, W, 3C)."""
    last = x.shape[1] - 2
    return torch.cat([x[:, tap : tap + last : stride] for tap in range(3)], -1)


def images(x: Tensor) -> Tensor:
    """Move frames into the batch: (B, T, H, W, C) -> (B*T, C, H, W), in channels-last memory."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


class Norm(nn.Module):
    """RMS norm over the channels. axes: the number of ones at the end of the stored shape of gamma."""

    def __init__(self, dim: int, axes: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *(1,) * axes))

    def forward(self, x: Tensor) -> Tensor:
        return nnf.rms_norm(x, x.shape[-1:], self.gamma.flatten().to(x.dtype), 1e-24)


class Residual(nn.Module):
    """A residual block: norm, SiLU and convolution, twice."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm1, self.conv1 = Norm(dim, 3), Conv(dim, out)
        self.norm2, self.conv2 = Norm(out, 3), Conv(out, out)
        self.conv_shortcut = Pointwise(dim, out) if dim != out else nn.Identity()

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:
        h = self.conv1(nnf.silu(self.norm1(x)), cache)
        return self.conv_shortcut(x) + self.conv2(nnf.silu(self.norm2(h)), cache)


class Attention(nn.Module):
    """Single-head self-attention over the pixels of each frame."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = Norm(dim, 2)
        self.to_qkv, self.proj = nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:
        qkv = nnf.linear(self.norm(x), self.to_qkv.weight.flatten(1), self.to_qkv.bias)
        q, k, v = qkv.flatten(2, 3).chunk(3, -1)  # B T HW C
        mixed = nnf.scaled_dot_product_attention(q, k, v).view_as(x)
        return x + nnf.linear(mixed, self.proj.weight.flatten(1), self.proj.bias)


class Down(nn.Module):
    """Downsampling by 2 in height and width; with `time` also in frames, except for the first."""

    def __init__(self, dim: int, time: bool):
        super().__init__()
        self.resample = nn.ModuleList([nn.Identity(), nn.Conv2d(dim, dim, 3, stride=2)])
        self.time_conv = TimeConv(dim, dim, 2) if time else None

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:
        """Downsample x (B, T, H, W, C)."""
        padded = images(nnf.pad(x, (0, 0, 0, 1, 0, 1)))
        x = self.resample[1](padded).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        if self.time_conv is None:
            return x
        if cache is None or self not in cache.frames:
            first, x = x[:, :1], x
        else:
            first, x = x[:, :0], torch.cat((cache.frames[self], x), 1)
        if cache is not None:
            cache.frames[self] = x[:, -1:].clone()
        return torch.cat((first, self.time_conv(x)), 1) if x.shape[1] > 2 else first


class Up(nn.Module):
    """Upsampling by 2 in height and width, with half the channels; with `time` also in frames, except for the first."""

    def __init__(self, dim: int, time: bool):
        super().__init__()
        self.resample = nn.ModuleList([nn.Identity(), nn.Conv2d(dim, dim // 2, 3, padding=1)])
        self.time_conv = TimeConv(dim, 2 * dim, 1) if time else None

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:
        if self.time_conv is not None:
            x = self.doubled(x, self.time_conv, cache)
        large = nnf.interpolate(images(x), scale_factor=2.0, mode="nearest-exact")
        return self.resample[1](large).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])

    def doubled(self, x: Tensor, conv: TimeConv, cache: ConvCache | None) -> Tensor:
        """Double every frame but the first of the stream, which the convolution never processes."""
        fresh = cache is None or self not in cache.frames
        first, x = x[:, :fresh], x[:, fresh:]
        x = with_context(self, x, 2, cache)
        if x.shape[1] == 2:
            return first
        pairs = conv(x).unflatten(-1, (2, -1)).movedim(4, 2).flatten(1, 2)
        return torch.cat((first, pairs), 1)


class Middle(nn.Module):
    """Two residual blocks around an attention layer."""

    def __init__(self, dim: int):
        super().__init__()
        self.resnets = nn.ModuleList([Residual(dim, dim), Residual(dim, dim)])
        self.attentions = nn.ModuleList([Attention(dim)])

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, cache), cache)
        return self.resnets[1](x, cache)


class UpBlock(nn.Module):
    """Residual blocks of one resolution, then upsampling to the next."""

    def __init__(self, dim: int, out: int, count: int, up: Up | None):
        super().__init__()
        self.resnets = nn.ModuleList(Residual(dim if i == 0 else out, out) for i in range(count))
        self.upsamplers = nn.ModuleList([up] if up is not None else [])

    def forward(self, x: Tensor, cache: ConvCache | None) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x, cache)
        return x
