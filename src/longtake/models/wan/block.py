"""One layer of the Wan transformer: rotary positions, block-causal attention, cross-attention by prompt.

Shapes: B videos, F latent frames in the step, M cached frames, S tokens per frame, D width, N heads, E head
width, L a run of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.layers import FeedForward, Span, TanhGelu, gated, rotate, runs, wide
from longtake.models.runtime.attention import Attend, sdpa

KeyValue = tuple[Tensor, ...]  # (B, L, N, E) each: key and value; of a text also those of image features
Columns = slice | list[int]  # latent frames of a step, ascending
PIECE, PIECE_CPU = 4096, 512  # tokens that the feed-forward processes at once


@dataclass(frozen=True)
class TextKV:
    """The cross-attention keys and values of one prompt, per layer; computed once."""

    layers: tuple[KeyValue, ...]


@dataclass(frozen=True)
class FrameKV:
    """Cached keys and values (B, M, S, D) of frames, per layer. Keys are normalised but not yet rotated."""

    keys: list[Tensor]
    values: list[Tensor]


class KVRecorder:
    """Records the keys and values of some columns of a step, layer by layer."""

    def __init__(self, at: Columns):
        self.at, self.kv = at, FrameKV([], [])

    @torch.compiler.disable
    def record(self, key_BFSD: Tensor, value_BFSD: Tensor) -> None:
        """Copy the keys and values of one layer in these columns, so that the others can be freed."""
        self.kv.keys.append(key_BFSD[:, self.at].clone())
        self.kv.values.append(value_BFSD[:, self.at].clone())


@dataclass(frozen=True)
class PositionedKV:
    """A `FrameKV` at the positions of its frames in a window. rope: see `rotary`.

    rotated: its keys, rotated once. A large cache is rotated at every use instead, so that it is in memory once.
    """

    kv: FrameKV
    rope: Tensor
    heads: int
    rotated: tuple[Tensor, ...] | None

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values (B, M*S, N, E) of a layer."""
        key = self.rotate(self.kv.keys[index]) if self.rotated is None else self.rotated[index]
        return key, split(self.kv.values[index].flatten(1, 2), self.heads)

    def rotate(self, key_BMSD: Tensor) -> Tensor:
        """Rotate keys to their positions."""
        return rotate(split(key_BMSD.flatten(1, 2), self.heads), self.rope[:, None])


@dataclass(frozen=True)
class BlockInputs:
    """The inputs that all layers share in one step.

    texts: an embedding (B, L, D), or the keys and values of prompts. scenes: (prompt, first frame, end frame) of every
    stretch of frames with one prompt. rope: see `rotary`. spans: which tokens attend to which. out: the columns that
    continue after this layer (None: all); scenes and starts of spans then count only these. out_rope: their positions.
    """

    texts: Tensor | Sequence[TextKV]
    scenes: Sequence[tuple[int, int, int]]
    rope: Tensor
    spans: Sequence[Span]
    kv_cache: PositionedKV | None
    attend: Attend = sdpa
    out: Columns | None = None
    out_rope: Tensor | None = None


def causal_spans(blocks: Sequence[int]) -> list[Span]:
    """Return spans in which every block of frames attends to itself and to all blocks before it. blocks: (F,), ascending."""
    return [Span(start, stop, ((0, stop),)) for _, start, stop in runs(blocks)]


def narrowed(spans: Sequence[Span], out: Sequence[int]) -> list[Span]:
    """Return the spans, in frames, of the columns `out` alone, packed side by side; they attend to what they did."""
    found, at = [], 0
    for span in spans:
        count = sum(span.start <= column < span.stop for column in out)
        if count:
            found.append(replace(span, start=at, stop=at + count))
            at += count
    return found


def attended(x: Tensor, cached: int, attends: Sequence[tuple[int, int]]) -> Tensor:
    """Select the keys or values of x (B, cached + L, N, E) that are cached or lie in these stretches of the step."""
    (first, *rest) = attends if cached == 0 else ((-cached, 0), *attends)
    parts = [first]
    for start, stop in rest:
        parts[-1:] = [(parts[-1][0], stop)] if start == parts[-1][1] else [parts[-1], (start, stop)]
    return joined([x[:, cached + start : cached + stop] for start, stop in parts])


def split(x: Tensor, heads: int) -> Tensor:
    """Split heads: (..., D) -> (..., N, E)."""
    return x.unflatten(-1, (heads, -1))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate stretches of tokens; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)


class RMSNorm(nn.RMSNorm):
    """RMS norm in the dtype of its input, so that autocast keeps the fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return nnf.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Attention with RMS-normalised queries and keys: self-attention, or cross-attention to text and image features."""

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
        """Compute keys and values (..., D)."""
        return self.norm_k(self.to_k(x)), self.to_v(x)

    def read(self, text_BLD: Tensor, image_BLD: Tensor | None = None) -> KeyValue:
        """Compute the keys and values of a text, and of image features if there are some."""
        found: KeyValue = self.keys_values(text_BLD)
        if image_BLD is not None:
            found = *found, self.norm_added_k(self.add_k_proj(image_BLD)), self.add_v_proj(image_BLD)
        return tuple(split(x, self.heads) for x in found)

    @torch.compiler.disable
    def cross(
        self, x_BFSD: Tensor, texts: Sequence[KeyValue], scenes: Sequence[tuple[int, int, int]], attend: Attend = sdpa
    ) -> Tensor:
        """Attend from every stretch of frames to its own prompt."""
        q_BFSNE = split(self.queries(x_BFSD), self.heads)
        parts = []
        for scene, start, stop in scenes:
            q = q_BFSNE[:, start:stop].flatten(1, 2)
            k, v, *image = texts[scene]
            parts.append(attend(q, k, v) + attend(q, *image) if image else attend(q, k, v))
        return self.to_out[0](joined(parts)).view_as(x_BFSD)

    def queries(self, x: Tensor) -> Tensor:
        """Compute queries (..., D)."""
        return self.norm_q(self.to_q(x))

    def rotated(self, x_BFSD: Tensor, rope: Tensor) -> Tensor:
        """Rotate queries or keys to the positions of their frames -> (B, L, N, E)."""
        return rotate(split(x_BFSD.flatten(1, 2), self.heads), rope[:, None])

    @torch.compiler.disable
    def among(self, q_BLNE: Tensor, k_BLNE: Tensor, v_BFSD: Tensor, index: int, inputs: BlockInputs) -> Tensor:
        """Attend from every span to the cached frames and to its stretches of the step -> (B, L, D)."""
        k, v, cached = k_BLNE, split(v_BFSD.flatten(1, 2), self.heads), 0
        if inputs.kv_cache is not None:
            old_k, old_v = inputs.kv_cache.layer(index)
            k, v, cached = torch.cat((old_k, k), 1), torch.cat((old_v, v), 1), old_k.shape[1]
        parts = (
            inputs.attend(q_BLNE[:, s.start : s.stop], attended(k, cached, s.attends), attended(v, cached, s.attends))
            for s in inputs.spans
        )
        return joined(list(parts))


class Block(nn.Module):
    """One layer: self-attention, cross-attention and feed-forward, with shift, scale and gate by each frame's sigma.

    entries: methods besides forward that are called from outside; a trainer that shards weights gathers them first.
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

    def forward(
        self, x_BFSD: Tensor, time_BF6D: Tensor, index: int, inputs: BlockInputs, recorder: KVRecorder | None = None
    ) -> Tensor:
        """Run layer `index`; `recorder` records its keys and values."""
        shift1, scale1, *moves = (self.scale_shift_table + time_BF6D).unsqueeze(3).unbind(2)
        a = modulated(x_BFSD, shift1, scale1, self.eps)
        key, value = self.attn1.keys_values(a)
        if recorder is not None:
            recorder.record(key, value)
        if inputs.out is not None:
            x_BFSD, a, *moves = (chosen(x, inputs.out) for x in (x_BFSD, a, *moves))
        gate1, shift2, scale2, gate2 = moves
        query = self.attn1.queries(a)
        del a  # every tensor of this size counts at the peak
        query = self.attn1.rotated(query, inputs.rope if inputs.out_rope is None else inputs.out_rope)
        key = self.attn1.rotated(key, inputs.rope)
        mixed = self.attn1.among(query, key, value, index, inputs)
        del query, key, value
        x_BFSD = gated(x_BFSD, self.attn1.to_out[0](mixed).view_as(x_BFSD), gate1)
        del mixed
        x_BFSD = x_BFSD + self.cross(self.norm2(x_BFSD), index, inputs)
        return self.feed_forward(x_BFSD, shift2, scale2, gate2)

    def feed_forward(self, x_BFSD: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        """Add the gated feed-forward. Without gradients it runs a few frames at a time, in place."""
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
        """Compute the keys and values of a text, and of image features if there are some, for cross-attention."""
        return self.attn2.read(text_BLD, image_BLD)

    def keys_values(self, x_BFSD: Tensor, time_BF6D: Tensor) -> KeyValue:
        """Compute the keys and values of self-attention for these frames, and nothing further."""
        shift, scale = (self.scale_shift_table[:, :2] + time_BF6D[:, :, :2]).unsqueeze(3).unbind(2)
        return self.attn1.keys_values(modulated(x_BFSD, shift, scale, self.eps))

    @torch.compiler.disable
    def cross(self, x_BFSD: Tensor, index: int, inputs: BlockInputs) -> Tensor:
        """Attend from the frames to their prompts."""
        if isinstance(inputs.texts, Tensor):
            texts = [self.attn2.read(inputs.texts)]
        else:
            texts = [text.layers[index] for text in inputs.texts]
        return self.attn2.cross(x_BFSD, texts, inputs.scenes, inputs.attend)


class WideNorm(nn.LayerNorm):
    """Layer norm in float32 or better, whatever the dtype of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return nnf.layer_norm(wide(x), x.shape[-1:], wide(self.weight), wide(self.bias), self.eps).to(x.dtype)


def modulated(x_BFSD: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Compute LayerNorm(x) * (1 + scale) + shift in float32 or better, with shift and scale (B, F, 1, D)."""
    normed = nnf.layer_norm(wide(x_BFSD), x_BFSD.shape[-1:], eps=eps)
    return torch.addcmul(shift, normed, 1 + scale).to(x_BFSD.dtype)


def chosen(x: Tensor, at: Columns) -> Tensor:
    """Return columns of x (B, F, ...); a single column is shared by all frames."""
    return x if x.shape[1] == 1 else x[:, at]
