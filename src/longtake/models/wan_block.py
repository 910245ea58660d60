"""One layer of the Wan transformer: rotary positions, attention in block order, cross-attention by prompt.

Shapes: B videos, F latent frames in the call, M remembered frames, S tokens per frame, D width, N heads, E head
width, L a run of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.attention import Attend, sdpa
from longtake.models.layers import FeedForward, TanhGelu, gated, runs, wide

KeyValue = tuple[Tensor, ...]  # (B, L, N, E) each: key and value; of a text also those of the image beside it
Columns = slice | list[int]  # latent frames of a call, ascending
PIECE, PIECE_CPU = 4096, 512  # tokens that go through the feed-forward at once: enough for full speed, and few


@dataclass(frozen=True)
class TextMemory:
    """What the cross-attention of every layer needs of one prompt; computed once."""

    layers: tuple[KeyValue, ...]


@dataclass(frozen=True)
class FrameMemory:
    """Keys and values (B, M, S, D) of remembered frames, per layer. Keys are normed but not yet rotated."""

    keys: list[Tensor]
    values: list[Tensor]


class Keep:
    """Gathers the keys and values of some columns of a call, layer by layer."""

    def __init__(self, at: Columns):
        self.at, self.memory = at, FrameMemory([], [])

    @torch.compiler.disable
    def take(self, key_BFSD: Tensor, value_BFSD: Tensor) -> None:
        """Copy what one layer has of these columns, so that the rest can go."""
        self.memory.keys.append(key_BFSD[:, self.at].clone())
        self.memory.values.append(value_BFSD[:, self.at].clone())


@dataclass(frozen=True)
class Placed:
    """A FrameMemory that stands where its frames are in a window; rope: see `rotary`.

    rotated: its keys, turned there once. A large memory is turned at every reading instead, so that it is held once.
    """

    memory: FrameMemory
    rope: Tensor
    heads: int
    rotated: tuple[Tensor, ...] | None

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, M*S, N, E) of a layer."""
        key = self.turned(self.memory.keys[index]) if self.rotated is None else self.rotated[index]
        return key, split(self.memory.values[index].flatten(1, 2), self.heads)

    def turned(self, key_BMSD: Tensor) -> Tensor:
        """Keys where they stand."""
        return rotate(split(key_BMSD.flatten(1, 2), self.heads), self.rope)


@dataclass(frozen=True)
class Call:
    """What every layer is told in one call of the network.

    texts: an embedding (B, L, D), or memories of prompts. scenes: (prompt, first frame, end frame) of every stretch
    of frames that follow one prompt. rope: see `rotary`. spans: who attends to whom, in tokens. out: the columns that
    go on after this layer (None: all); scenes and starts of spans then count these alone. out_rope: where they stand.
    """

    texts: Tensor | Sequence[TextMemory]
    scenes: Sequence[tuple[int, int, int]]
    rope: Tensor
    spans: Sequence[Span]
    memory: Placed | None
    attend: Attend = sdpa
    out: Columns | None = None
    out_rope: Tensor | None = None


@dataclass(frozen=True)
class Span:
    """A stretch [start, stop) of a call, and the stretches of it that it attends to, beside all that is remembered."""

    start: int
    stop: int
    sees: tuple[tuple[int, int], ...]

    def times(self, size: int) -> Span:
        """The same span in units that are `size` times smaller."""
        return Span(self.start * size, self.stop * size, tuple((a * size, b * size) for a, b in self.sees))


def causal_spans(blocks: Sequence[int]) -> list[Span]:
    """Every block of frames attends to itself and to all blocks before it. blocks: (F,) ascending."""
    return [Span(start, stop, ((0, stop),)) for _, start, stop in runs(blocks)]


def narrowed(spans: Sequence[Span], out: Sequence[int]) -> list[Span]:
    """The spans, in frames, of the columns `out` alone, which stand side by side; they see what they saw."""
    found, at = [], 0
    for span in spans:
        count = sum(span.start <= column < span.stop for column in out)
        if count:
            found.append(replace(span, start=at, stop=at + count))
            at += count
    return found


def rotary(positions_F: Tensor, height: int, width: int, head: int) -> Tensor:
    """RoPE factors (F*height*width, head/2, 2), cosine and sine: time first, then row, then column.

    Any real position will do.
    """

    def turn(position: Tensor, dim: int) -> Tensor:
        frequency = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = position.double()[:, None] * frequency
        return torch.polar(torch.ones_like(angle), angle)

    space = 2 * (head // 6)
    shape = (len(positions_F), height, width, -1)
    parts = (
        turn(positions_F, head - 2 * space)[:, None, None].expand(shape),
        turn(torch.arange(height), space)[None, :, None].expand(shape),
        turn(torch.arange(width), space)[None, None, :].expand(shape),
    )
    return torch.view_as_real(torch.cat(parts, -1).flatten(0, 2))


def rotate(x_BLNE: Tensor, rope_LE2: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels by their position's angle, in float32 or better."""
    pairs = wide(x_BLNE).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # compilers know no complex numbers, with which this is otherwise fastest
        (x, y), (cos, sin) = pairs.unbind(-1), rope_LE2[:, None].unbind(-1)
        return torch.stack((x * cos - y * sin, x * sin + y * cos), -1).flatten(-2).to(x_BLNE.dtype)
    turned = torch.view_as_complex(pairs) * torch.view_as_complex(rope_LE2)[:, None]
    return torch.view_as_real(turned).flatten(-2).to(x_BLNE.dtype)


def visible(x: Tensor, past: int, sees: Sequence[tuple[int, int]]) -> Tensor:
    """Keys or values (B, past + L, N, E) that are remembered or lie in these stretches of the call."""
    (first, *rest) = sees if past == 0 else ((-past, 0), *sees)
    parts = [first]
    for start, stop in rest:
        parts[-1:] = [(parts[-1][0], stop)] if start == parts[-1][1] else [parts[-1], (start, stop)]
    return joined([x[:, past + start : past + stop] for start, stop in parts])


def split(x: Tensor, heads: int) -> Tensor:
    """(..., D) -> (..., N, E)"""
    return x.unflatten(-1, (heads, -1))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Stretches of tokens one after the other; no copy of a single one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)


class RMSNorm(nn.RMSNorm):
    """Root mean square norm in the dtype of its input, so that autocast keeps the fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return nnf.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Attention with RMS-normed queries and keys: of frames among themselves, or of frames to text (and image)."""

    def __init__(self, dim: int, heads: int, eps: float, image_dim: int | None = None):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q, self.norm_k = (RMSNorm(dim, eps) for _ in range(2))
        if image_dim is not None:
            self.add_k_proj, self.add_v_proj = (nn.Linear(image_dim, dim) for _ in range(2))
            self.norm_added_k = RMSNorm(dim, eps)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (..., D)."""
        return self.norm_k(self.to_k(x)), self.to_v(x)

    def read(self, text_BLD: Tensor, image_BLD: Tensor | None = None) -> KeyValue:
        """Keys and values of a text, and of an image if there is one."""
        found: KeyValue = self.keys_values(text_BLD)
        if image_BLD is not None:
            found = *found, self.norm_added_k(self.add_k_proj(image_BLD)), self.add_v_proj(image_BLD)
        return tuple(split(x, self.heads) for x in found)

    @torch.compiler.disable
    def cross(
        self, x_BFSD: Tensor, texts: Sequence[KeyValue], scenes: Sequence[tuple[int, int, int]], attend: Attend = sdpa
    ) -> Tensor:
        """Every stretch of frames attends to its own text."""
        q_BFSNE = split(self.queries(x_BFSD), self.heads)
        told = []
        for scene, start, stop in scenes:
            q = q_BFSNE[:, start:stop].flatten(1, 2)
            k, v, *image = texts[scene]
            told.append(attend(q, k, v) + attend(q, *image) if image else attend(q, k, v))
        return self.to_out[0](joined(told)).view_as(x_BFSD)

    def queries(self, x: Tensor) -> Tensor:
        """Queries (..., D)."""
        return self.norm_q(self.to_q(x))

    def turned(self, x_BFSD: Tensor, rope: Tensor) -> Tensor:
        """Queries or keys (B, L, N, E) where their frames stand."""
        return rotate(split(x_BFSD.flatten(1, 2), self.heads), rope)

    @torch.compiler.disable
    def among(self, q_BLNE: Tensor, k_BLNE: Tensor, v_BFSD: Tensor, index: int, call: Call) -> Tensor:
        """Every stretch of frames attends to what is remembered and to what it sees of the call. (B, L, D)"""
        k, v, past = k_BLNE, split(v_BFSD.flatten(1, 2), self.heads), 0
        if call.memory is not None:
            old_k, old_v = call.memory.layer(index)
            k, v, past = torch.cat((old_k, k), 1), torch.cat((old_v, v), 1), old_k.shape[1]
        parts = (
            call.attend(q_BLNE[:, s.start : s.stop], visible(k, past, s.sees), visible(v, past, s.sees))
            for s in call.spans
        )
        return joined(list(parts))


class Block(nn.Module):
    """Self-attention, cross-attention, feed-forward; shift, scale and gate follow each frame's noise level.

    entries: methods besides forward that others call, before which a trainer that shards weights must gather them.
    """

    entries = ("read", "keys_values")

    def __init__(self, dim: int, heads: int, ffn_dim: int, eps: float, cross_norm: bool, image_dim: int | None):
        super().__init__()
        self.eps = eps
        self.attn1 = Attention(dim, heads, eps)
        self.attn2 = Attention(dim, heads, eps, image_dim)
        self.norm2 = WideNorm(dim, eps) if cross_norm else nn.Identity()
        self.ffn = FeedForward(dim, ffn_dim, dim, TanhGelu())
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(self, x_BFSD: Tensor, time_BF6D: Tensor, index: int, call: Call, keep: Keep | None = None) -> Tensor:
        """Layer `index` of the call; `keep` takes its keys and values."""
        shift1, scale1, *moves = (self.scale_shift_table + time_BF6D).unsqueeze(3).unbind(2)
        a = modulated(x_BFSD, shift1, scale1, self.eps)
        key, value = self.attn1.keys_values(a)
        if keep is not None:
            keep.take(key, value)
        if call.out is not None:
            x_BFSD, a, *moves = (chosen(x, call.out) for x in (x_BFSD, a, *moves))
        gate1, shift2, scale2, gate2 = moves
        query = self.attn1.queries(a)
        del a  # every tensor of this size counts at the peak
        query = self.attn1.turned(query, call.rope if call.out_rope is None else call.out_rope)
        key = self.attn1.turned(key, call.rope)
        seen = self.attn1.among(query, key, value, index, call)
        del query, key, value
        x_BFSD = gated(x_BFSD, self.attn1.to_out[0](seen).view_as(x_BFSD), gate1)
        del seen
        x_BFSD = x_BFSD + self.told(self.norm2(x_BFSD), index, call)
        return self.fed(x_BFSD, shift2, scale2, gate2)

    def fed(self, x_BFSD: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        """The feed-forward. Without gradients it goes a few frames at a time, in place."""
        piece = PIECE_CPU if x_BFSD.device.type == "cpu" else PIECE
        step = max(1, piece // (len(x_BFSD) * x_BFSD.shape[2]))
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or step >= x_BFSD.shape[1]:
            return gated(x_BFSD, self.ffn(modulated(x_BFSD, shift, scale, self.eps)), gate)
        for start in range(0, x_BFSD.shape[1], step):
            part = slice(start, start + step)
            x, a, b, c = (chosen(t, part) for t in (x_BFSD, shift, scale, gate))
            x_BFSD[:, part] = gated(x, self.ffn(modulated(x, a, b, self.eps)), c)
        return x_BFSD

    def read(self, text_BLD: Tensor, image_BLD: Tensor | None = None) -> KeyValue:
        """Keys and values of a text, and of an image if there is one, for cross-attention."""
        return self.attn2.read(text_BLD, image_BLD)

    def keys_values(self, x_BFSD: Tensor, time_BF6D: Tensor) -> KeyValue:
        """What self-attention would remember of these frames, and nothing further."""
        shift, scale = (self.scale_shift_table[:, :2] + time_BF6D[:, :, :2]).unsqueeze(3).unbind(2)
        return self.attn1.keys_values(modulated(x_BFSD, shift, scale, self.eps))

    @torch.compiler.disable
    def told(self, x_BFSD: Tensor, index: int, call: Call) -> Tensor:
        """What the frames read in their texts."""
        if isinstance(call.texts, Tensor):
            texts = [self.attn2.read(call.texts)]
        else:
            texts = [text.layers[index] for text in call.texts]
        return self.attn2.cross(x_BFSD, texts, call.scenes, call.attend)


class WideNorm(nn.LayerNorm):
    """Layer norm in float32 or better, whatever its weights are kept in."""

    def forward(self, x: Tensor) -> Tensor:
        return nnf.layer_norm(wide(x), x.shape[-1:], wide(self.weight), wide(self.bias), self.eps).to(x.dtype)


def modulated(x_BFSD: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift, in float32 or better; shift and scale are (B, F, 1, D)."""
    normed = nnf.layer_norm(wide(x_BFSD), x_BFSD.shape[-1:], eps=eps)
    return torch.addcmul(shift, normed, 1 + scale).to(x_BFSD.dtype)


def chosen(x: Tensor, at: Columns) -> Tensor:
    """Columns of x (B, F, ...); one column stands for all."""
    return x if x.shape[1] == 1 else x[:, at]
