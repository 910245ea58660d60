"""One layer of the Wan transformer: rotary positions, attention in block order, cross-attention by prompt.

Shapes: B videos, F latent frames in the call, M remembered frames, S tokens per frame, D width, N heads, E head
width, L a run of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.layers import FeedForward, TanhGelu, gated, runs, wide

KeyValue = tuple[Tensor, ...]  # (B, L, N, E) each: key and value; of a text also those of the image beside it


@dataclass(frozen=True)
class TextMemory:
    """What the cross-attention of every layer needs of one prompt; computed once."""

    layers: tuple[KeyValue, ...]


@dataclass(frozen=True)
class FrameMemory:
    """Keys and values (B, M, S, D) of remembered frames, per layer. Keys are normed but not yet rotated."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True)
class Placed:
    """A FrameMemory (B, M*S, N, E) whose keys are rotated to where its frames stand in a window."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True)
class Call:
    """What every layer is told in one call of the network.

    texts: an embedding (B, L, D), or memories of prompts. scenes: (prompt, first frame, end frame) of every stretch
    of frames that follow one prompt. rope: see `rotary`. spans: who attends to whom, in tokens.
    """

    texts: Tensor | Sequence[TextMemory]
    scenes: Sequence[tuple[int, int, int]]
    rope: Tensor
    spans: Sequence[Span]
    memory: Placed | None


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


def rotary(positions_F: Tensor, height: int, width: int, head: int) -> Tensor:
    """Complex RoPE factors (F*height*width, head/2): time first, then row, then column. Any real position will do."""

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
    return torch.cat(parts, -1).flatten(0, 2)


def rotate(x_BLNE: Tensor, rope_LE: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels by their position's angle, in float32 or better."""
    pairs = torch.view_as_complex(wide(x_BLNE).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rope_LE[:, None]).flatten(-2).to(x_BLNE.dtype)


def attend(q_BLNE: Tensor, k_BLNE: Tensor, v_BLNE: Tensor) -> Tensor:
    """Attention (B, L, N*E); a text of batch 1 serves any batch."""
    batch = len(q_BLNE)
    q, k, v = (t.expand(batch, -1, -1, -1).transpose(1, 2) for t in (q_BLNE, k_BLNE, v_BLNE))
    return nnf.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


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

    def cross(self, x_BFSD: Tensor, texts: Sequence[KeyValue], scenes: Sequence[tuple[int, int, int]]) -> Tensor:
        """Every stretch of frames attends to its own text."""
        q_BFSNE = split(self.norm_q(self.to_q(x_BFSD)), self.heads)
        told = []
        for scene, start, stop in scenes:
            q = q_BFSNE[:, start:stop].flatten(1, 2)
            k, v, *image = texts[scene]
            told.append(attend(q, k, v) + attend(q, *image) if image else attend(q, k, v))
        return self.to_out[0](joined(told)).view_as(x_BFSD)

    def among(self, x_BFSD: Tensor, key_BFSD: Tensor, value_BFSD: Tensor, index: int, call: Call) -> Tensor:
        """Every block of frames attends to what is remembered, to the blocks before it, and within itself."""
        q, k, v = (split(x.flatten(1, 2), self.heads) for x in (self.norm_q(self.to_q(x_BFSD)), key_BFSD, value_BFSD))
        q, k, past = rotate(q, call.rope), rotate(k, call.rope), 0
        if call.memory is not None:
            old_k, old_v = call.memory.keys[index], call.memory.values[index]
            k, v, past = torch.cat((old_k, k), 1), torch.cat((old_v, v), 1), old_k.shape[1]
        seen = [attend(q[:, s.start : s.stop], *(visible(x, past, s.sees) for x in (k, v))) for s in call.spans]
        return self.to_out[0](joined(seen)).view_as(x_BFSD)


class Block(nn.Module):
    """Self-attention, cross-attention, feed-forward; shift, scale and gate follow each frame's noise level."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, eps: float, cross_norm: bool, image_dim: int | None):
        super().__init__()
        self.eps = eps
        self.attn1 = Attention(dim, heads, eps)
        self.attn2 = Attention(dim, heads, eps, image_dim)
        self.norm2 = WideNorm(dim, eps) if cross_norm else nn.Identity()
        self.ffn = FeedForward(dim, ffn_dim, dim, TanhGelu())
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(
        self, x_BFSD: Tensor, time_BF6D: Tensor, index: int, call: Call, keep: list[KeyValue] | None = None
    ) -> Tensor:
        """Layer `index` of the call; its keys and values (B, F, S, D) are appended to `keep`."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.scale_shift_table + time_BF6D).unsqueeze(3).unbind(2)
        a = modulated(x_BFSD, shift1, scale1, self.eps)
        key, value = self.attn1.keys_values(a)
        if keep is not None:
            keep.append((key, value))
        x_BFSD = gated(x_BFSD, self.attn1.among(a, key, value, index, call), gate1)
        x_BFSD = x_BFSD + self.attn2.cross(self.norm2(x_BFSD), self.told(index, call.texts), call.scenes)
        return gated(x_BFSD, self.ffn(modulated(x_BFSD, shift2, scale2, self.eps)), gate2)

    def keys_values(self, x_BFSD: Tensor, time_BF6D: Tensor) -> KeyValue:
        """What self-attention would remember of these frames, and nothing further."""
        shift, scale = (self.scale_shift_table[:, :2] + time_BF6D[:, :, :2]).unsqueeze(3).unbind(2)
        return self.attn1.keys_values(modulated(x_BFSD, shift, scale, self.eps))

    def told(self, index: int, texts: Tensor | Sequence[TextMemory]) -> list[KeyValue]:
        """Keys and values of every text for this layer."""
        if isinstance(texts, Tensor):
            return [self.attn2.read(texts)]
        return [text.layers[index] for text in texts]


class WideNorm(nn.LayerNorm):
    """Layer norm in float32 or better, whatever its weights are kept in."""

    def forward(self, x: Tensor) -> Tensor:
        return nnf.layer_norm(wide(x), x.shape[-1:], wide(self.weight), wide(self.bias), self.eps).to(x.dtype)


def modulated(x_BFSD: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift, in float32 or better; shift and scale are (B, F, 1, D)."""
    normed = nnf.layer_norm(wide(x_BFSD), x_BFSD.shape[-1:], eps=eps)
    return torch.addcmul(shift, normed, 1 + scale).to(x_BFSD.dtype)
