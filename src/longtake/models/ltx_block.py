"""One layer of the LTX transformer: rotary positions over all channels, modulation by noise level, text by prompt.

Shapes: B videos, F latent frames, S tokens per frame, L a run of tokens, D width, N heads, E width of a head, U
distinct noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.attention import sdpa
from longtake.models.layers import FeedForward, TanhGelu, gated, wide

THETA = 10000.0
KeyValue = tuple[Tensor, Tensor]  # (B, L, N, E) each
Told = tuple[Tensor, Tensor, Tensor | None]  # what one layer reads of a prompt: keys, values, and `TextMemory.seen`


@dataclass(frozen=True)
class TextMemory:
    """What the cross-attention of every layer needs of one prompt. seen: (B, L), words that are no padding."""

    layers: tuple[KeyValue, ...]
    seen: Tensor | None = None


@dataclass(frozen=True)
class Levels:
    """Codes of the distinct noise levels, and the number of the one at which each frame or token stands.

    head (U, D), blocks (U, 6, D); at: (B or 1, F or 1, S or 1).
    """

    head: Tensor
    blocks: Tensor
    at: Tensor

    def of(self, table: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
        """Each row of (table (R, D) + codes (U, R or 1, D)), for every frame or token: R of (B, F, S, D)."""
        return tuple(row[self.at] for row in (wide(table) + wide(codes)).unbind(1))


@dataclass(frozen=True)
class Call:
    """What every layer is told in one call: scenes are (prompt, first frame, end frame) of every stretch of frames."""

    texts: Sequence[TextMemory]
    scenes: Sequence[tuple[int, int, int]]
    levels: Levels
    rope: Tensor  # see `rotary`; (B, L, D/2) if every video keeps tokens of its own

    def told(self, index: int) -> list[Told]:
        """What layer `index` reads of every prompt. Layers do not know their number: compiled, they share their code."""
        return [(*text.layers[index], text.seen) for text in self.texts]

    def repeated(self, rows: int) -> Call:
        """The same with the first `rows` videos once more at the end."""
        at, texts = self.levels.at, []
        for text in self.texts:
            layers = tuple((again(k, rows), again(v, rows)) for k, v in text.layers)
            texts.append(TextMemory(layers, None if text.seen is None else again(text.seen, rows)))
        rope = again(self.rope, rows) if self.rope.ndim == 3 else self.rope
        return Call(texts, self.scenes, Levels(self.levels.head, self.levels.blocks, again(at, rows)), rope)


def again(x: Tensor, rows: int) -> Tensor:
    """x with its first `rows` once more at the end; what is one for all videos stays so."""
    return x if len(x) == 1 else torch.cat([x, x[:rows]])


def rotary(seconds: Sequence[float], rows: Sequence[float], columns: Sequence[float], dim: int) -> Tensor:
    """Complex RoPE factors (F*H*W, dim/2) of places told as shares of the window of their axis.

    The channels go by frequency, then axis; those that do not divide by six come first and do not turn. Angles in
    float32, as published: the highest frequency makes them sensitive to the last bit.
    """
    count, rest = dim // 6, dim % 6
    frequency = THETA ** torch.linspace(0, 1, count, dtype=torch.float32) * math.pi / 2

    def turns(places: Sequence[float]) -> Tensor:
        angle = frequency * (torch.tensor(places, dtype=torch.float32)[:, None] * 2 - 1)
        return torch.polar(torch.ones_like(angle, dtype=torch.float64), angle.double())

    shape = (len(seconds), len(rows), len(columns), count)
    axes = (turns(seconds)[:, None, None], turns(rows)[None, :, None], turns(columns)[None, None])
    table = torch.stack([axis.expand(shape) for axis in axes], -1).flatten(3).flatten(0, 2)
    return torch.cat((table.new_ones(len(table), rest // 2), table), -1)


def rotate(x_BLD: Tensor, rope: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels by their position's angle, in float32 or better."""
    pairs = torch.view_as_complex(wide(x_BLD).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rope).flatten(-2).to(x_BLD.dtype)


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """RMSNorm(x) * (1 + scale) + shift, in float32 or better."""
    return torch.addcmul(shift, nnf.rms_norm(wide(x), x.shape[-1:], eps=eps), 1 + scale).to(x.dtype)


class Attention(nn.Module):
    """Attention with queries and keys normed over all heads: of tokens among themselves, or of tokens to text."""

    def __init__(self, dim: int, heads: int, told: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = nn.Linear(dim, dim), nn.Linear(told, dim), nn.Linear(told, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q, self.norm_k = (nn.RMSNorm(dim, 1e-5) for _ in range(2))

    def read(self, text_BLD: Tensor) -> KeyValue:
        """Keys and values of a text."""
        return self._split(self.norm_k(self.to_k(text_BLD))), self._split(self.to_v(text_BLD))

    def cross(self, x_BFSD: Tensor, told: Sequence[Told], scenes: Sequence[tuple[int, int, int]]) -> Tensor:
        """Every stretch of frames attends to its own text."""
        q_BFSNE = self._split(self.norm_q(self.to_q(x_BFSD)))
        read = [sdpa(q_BFSNE[:, start:stop].flatten(1, 2), *told[scene]) for scene, start, stop in scenes]
        return self.to_out[0](read[0] if len(read) == 1 else torch.cat(read, 1)).view_as(x_BFSD)

    def among(self, x_BFSD: Tensor, rope: Tensor, blind: int = 0) -> Tensor:
        """Every token attends to all tokens; in the last `blind` videos it keeps its own value instead."""
        x_BLD = x_BFSD.flatten(1, 2)
        looks = x_BLD[: len(x_BLD) - blind]
        turns = rope if rope.ndim == 2 else rope[: len(looks)]
        q, k = rotate(self.norm_q(self.to_q(looks)), turns), rotate(self.norm_k(self.to_k(looks)), turns)
        v = self.to_v(x_BLD)
        seen = sdpa(self._split(q), self._split(k), self._split(v[: len(looks)]))
        return self.to_out[0](torch.cat([seen, v[len(looks) :]]) if blind else seen).view_as(x_BFSD)

    def _split(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., N, E)"""
        return x.unflatten(-1, (self.heads, -1))


class Block(nn.Module):
    """Self-attention, cross-attention, feed-forward; shift, scale and gate follow each token's noise level.

    entries: methods besides forward that others call, before which a trainer that shards weights must gather them.
    """

    entries = ("read",)

    def __init__(self, dim: int, heads: int, told: int, eps: float):
        super().__init__()
        self.eps = eps
        self.attn1, self.attn2 = Attention(dim, heads, dim), Attention(dim, heads, told)
        self.ff = FeedForward(dim, 4 * dim, dim, TanhGelu())
        self.scale_shift_table = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(self, x_BFSD: Tensor, told: Sequence[Told], call: Call, blind: int = 0) -> Tensor:
        """told: see `Call.told`. blind: videos at the end whose self-attention is replaced by its values."""
        shift1, scale1, gate1, shift2, scale2, gate2 = call.levels.of(self.scale_shift_table, call.levels.blocks)
        x_BFSD = gated(x_BFSD, self.attn1.among(modulated(x_BFSD, shift1, scale1, self.eps), call.rope, blind), gate1)
        x_BFSD = x_BFSD + self.attn2.cross(x_BFSD, told, call.scenes)
        return gated(x_BFSD, self.ff(modulated(x_BFSD, shift2, scale2, self.eps)), gate2)

    def read(self, text_BLD: Tensor) -> KeyValue:
        """Keys and values of a text, for cross-attention."""
        return self.attn2.read(text_BLD)
