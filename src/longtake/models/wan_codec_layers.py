"""The layers of the Wan codec: causal in time, on tensors (B, T, H, W, C), channels last.

Pointwise layers are matrix products, and 3x3x3 convolutions find the layout they like. A `Carry` is what the causal
layers of one stream know of the frames before; None stands for a whole clip at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


@dataclass
class Carry:
    """A stream on its way: the last inputs of every causal layer, and kernels that were reshaped once for the stream.

    folds: whether convolutions over time are done as over channels, which is faster on a CPU.
    """

    frames: dict[nn.Module, Tensor] = field(default_factory=dict)
    kernels: dict[nn.Module, Tensor] = field(default_factory=dict)
    folds: bool = False

    def copy(self) -> Carry:
        """A carry that goes on by itself; tensors are never changed in place."""
        return Carry(dict(self.frames), dict(self.kernels), self.folds)


class Conv(nn.Conv3d):
    """3x3x3 convolution that sees a frame and the two before it."""

    def __init__(self, dim: int, out: int):
        super().__init__(dim, out, 3)

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:  # type: ignore[override]
        x = remembered(self, x, 2, carry)
        if carry is not None and carry.folds:
            return self.folded(x, carry)
        out = nnf.conv3d(x.permute(0, 4, 1, 2, 3), self.weight, self.bias, padding=(0, 1, 1))
        return out.permute(0, 2, 3, 4, 1)

    def folded(self, x: Tensor, carry: Carry) -> Tensor:
        """The same as a 2D convolution over the channels of three frames: on a CPU two to three times faster."""
        if self not in carry.kernels:
            kernel = self.weight.transpose(1, 2).flatten(1, 2)
            carry.kernels[self] = kernel.contiguous(memory_format=torch.channels_last)
        out = nnf.conv2d(images(taps(x, 1)), carry.kernels[self], self.bias, padding=1)
        return out.permute(0, 2, 3, 1).unflatten(0, (len(x), -1))


class TimeConv(nn.Conv3d):
    """3x1x1 convolution over a frame and the two before it, of every frame or of every second one."""

    def __init__(self, dim: int, out: int, stride: int):
        super().__init__(dim, out, (3, 1, 1), (stride, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nnf.linear(taps(x, self.stride[0]), self.weight.transpose(1, 2).flatten(1), self.bias)


class Pointwise(nn.Conv3d):
    """1x1x1 convolution."""

    def __init__(self, dim: int, out: int):
        super().__init__(dim, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nnf.linear(x, self.weight.flatten(1), self.bias)


def remembered(layer: nn.Module, x: Tensor, count: int, carry: Carry | None) -> Tensor:
    """x behind the last `count` frames that the layer saw: zeros at the start of a stream."""
    past = None if carry is None else carry.frames.get(layer)
    if past is None:
        past = x.new_zeros(len(x), count, *x.shape[2:])
    x = torch.cat((past, x), 1)
    if carry is not None:
        carry.frames[layer] = x[:, -count:].clone()
    return x


def taps(x: Tensor, stride: int) -> Tensor:
    """(B, T, H, W, C) -> (B, T', H, W, 3C): every run of three frames, side by side in the channels."""
    last = x.shape[1] - 2
    return torch.cat([x[:, tap : tap + last : stride] for tap in range(3)], -1)


def images(x: Tensor) -> Tensor:
    """(B, T, H, W, C) -> (B*T, C, H, W), in channels-last memory."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


class Norm(nn.Module):
    """RMS norm over the channels; axes is how many ones the stored shape of gamma ends with."""

    def __init__(self, dim: int, axes: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *(1,) * axes))

    def forward(self, x: Tensor) -> Tensor:
        return nnf.rms_norm(x, x.shape[-1:], self.gamma.flatten().to(x.dtype), 1e-24)


class Residual(nn.Module):
    """Norm, SiLU and convolution, twice, beside a shortcut."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm1, self.conv1 = Norm(dim, 3), Conv(dim, out)
        self.norm2, self.conv2 = Norm(out, 3), Conv(out, out)
        self.conv_shortcut = Pointwise(dim, out) if dim != out else nn.Identity()

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:
        h = self.conv1(nnf.silu(self.norm1(x)), carry)
        return self.conv_shortcut(x) + self.conv2(nnf.silu(self.norm2(h)), carry)


class Attention(nn.Module):
    """One head over the pixels of each frame on its own."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = Norm(dim, 2)
        self.to_qkv, self.proj = nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:
        qkv = nnf.linear(self.norm(x), self.to_qkv.weight.flatten(1), self.to_qkv.bias)
        q, k, v = qkv.flatten(2, 3).chunk(3, -1)  # B T HW C
        seen = nnf.scaled_dot_product_attention(q, k, v).view_as(x)
        return x + nnf.linear(seen, self.proj.weight.flatten(1), self.proj.bias)


class Down(nn.Module):
    """Half the height and width; with `time` also half the frames, of which the first stays alone."""

    def __init__(self, dim: int, time: bool):
        super().__init__()
        self.resample = nn.ModuleList([nn.Identity(), nn.Conv2d(dim, dim, 3, stride=2)])
        self.time_conv = TimeConv(dim, dim, 2) if time else None

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:
        """Half as high and wide, and in time too if it has a convolution there (B T H W C)."""
        padded = images(nnf.pad(x, (0, 0, 0, 1, 0, 1)))
        x = self.resample[1](padded).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        if self.time_conv is None:
            return x
        if carry is None or self not in carry.frames:
            first, x = x[:, :1], x
        else:
            first, x = x[:, :0], torch.cat((carry.frames[self], x), 1)
        if carry is not None:
            carry.frames[self] = x[:, -1:].clone()
        return torch.cat((first, self.time_conv(x)), 1) if x.shape[1] > 2 else first


class Up(nn.Module):
    """Twice the height and width and half the channels; with `time` also twice the frames, but not the first."""

    def __init__(self, dim: int, time: bool):
        super().__init__()
        self.resample = nn.ModuleList([nn.Identity(), nn.Conv2d(dim, dim // 2, 3, padding=1)])
        self.time_conv = TimeConv(dim, 2 * dim, 1) if time else None

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:
        if self.time_conv is not None:
            x = self.doubled(x, self.time_conv, carry)
        large = nnf.interpolate(images(x), scale_factor=2.0, mode="nearest-exact")
        return self.resample[1](large).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])

    def doubled(self, x: Tensor, conv: TimeConv, carry: Carry | None) -> Tensor:
        """Every frame but the first of the stream becomes two; the convolution never sees that first one."""
        fresh = carry is None or self not in carry.frames
        first, x = x[:, :fresh], x[:, fresh:]
        x = remembered(self, x, 2, carry)
        if x.shape[1] == 2:
            return first
        pairs = conv(x).unflatten(-1, (2, -1)).movedim(4, 2).flatten(1, 2)
        return torch.cat((first, pairs), 1)


class Middle(nn.Module):
    """Two residual blocks around an attention."""

    def __init__(self, dim: int):
        super().__init__()
        self.resnets = nn.ModuleList([Residual(dim, dim), Residual(dim, dim)])
        self.attentions = nn.ModuleList([Attention(dim)])

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, carry), carry)
        return self.resnets[1](x, carry)


class UpBlock(nn.Module):
    """Residual blocks of one level, then the way up to the next."""

    def __init__(self, dim: int, out: int, count: int, up: Up | None):
        super().__init__()
        self.resnets = nn.ModuleList(Residual(dim if i == 0 else out, out) for i in range(count))
        self.upsamplers = nn.ModuleList([up] if up is not None else [])

    def forward(self, x: Tensor, carry: Carry | None) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x, carry)
        return x
