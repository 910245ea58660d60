"""One layer of the LTX transformer: rotary positions over all channels, modulation by sigma, cross-attention by prompt.

Shapes: B videos, F latent frames, S tokens per frame, L a run of tokens, D width, N heads, E width of a head, U
distinct sigmas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.core.guidance_settings import StgMode
from longtake.models.layers import FeedForward, TanhGelu, gated, rotate, wide
from longtake.models.runtime.attention import Attend, sdpa

KeyValue = tuple[Tensor, Tensor]  # (B, L, N, E) each
TextInputs = tuple[Tensor, Tensor, Tensor | None]  # keys, values and mask of one prompt, for one layer


@dataclass(frozen=True)
class TextKV:
    """The keys and values of one prompt for the cross-attention of every layer. mask: (B, L), False for padding."""

    layers: tuple[KeyValue, ...]
    mask: Tensor | None = None


@dataclass(frozen=True)
class Modulation:
    """The embeddings of the distinct sigmas, and which of them each frame or token has.

    head: (U, D). blocks: (U, 6, D). at: index of the sigma, (B or 1, F or 1, S or 1).
    """

    head: Tensor
    blocks: Tensor
    at: Tensor

    def repeated(self, rows: int) -> Modulation:
        """Return the same with the first `rows` videos once more at the end."""
        return Modulation(self.head, self.blocks, again(self.at, rows))

    def of(self, table: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
        """Return each row of table (R, D) + codes (U, R or 1, D) for every frame or token: R tensors (B, F, S, D)."""
        return tuple(row[self.at] for row in (wide(table) + wide(codes)).unbind(1))


@dataclass(frozen=True)
class BlockInputs:
    """The inputs that all layers share in one step.

    scenes: (prompt, first frame, end frame) of every stretch of frames. rope: see `rotary`; (B, L, D/2) if every video
    keeps tokens of its own.
    """

    texts: Sequence[TextKV]
    scenes: Sequence[tuple[int, int, int]]
    sigmas: Modulation
    rope: Tensor
    attend: Attend = sdpa

    def text_inputs(self, index: int) -> list[TextInputs]:
        """Return the text inputs of layer `index`. Layers do not know their number, so that compiled they share their code."""
        return [(*text.layers[index], text.mask) for text in self.texts]

    def repeated(self, rows: int) -> BlockInputs:
        """Return the inputs with the first `rows` videos repeated at the end."""
        texts = []
        for text in self.texts:
            layers = tuple((again(k, rows), again(v, rows)) for k, v in text.layers)
            texts.append(TextKV(layers, None if text.mask is None else again(text.mask, rows)))
        rope = again(self.rope, rows) if self.rope.ndim == 3 else self.rope
        return replace(self, texts=texts, sigmas=self.sigmas.repeated(rows), rope=rope)


def again(x: Tensor, rows: int) -> Tensor:
    """Return x with its first `rows` repeated at the end; a batch of one, shared by all videos, stays as it is."""
    return x if len(x) == 1 else torch.cat([x, x[:rows]])


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Compute RMSNorm(x) * (1 + scale) + shift in float32 or better."""
    return torch.addcmul(shift, nnf.rms_norm(wide(x), x.shape[-1:], eps=eps), 1 + scale).to(x.dtype)


class Attention(nn.Module):
    """Attention whose queries and keys are normalised over all heads: self-attention, or cross-attention to text."""

    def __init__(self, dim: int, heads: int, context_dim: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = nn.Linear(dim, dim), nn.Linear(context_dim, dim), nn.Linear(context_dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q, self.norm_k = (nn.RMSNorm(dim, 1e-5) for _ in range(2))

    def read(self, text_BLD: Tensor) -> KeyValue:
        """Compute the keys and values of a text."""
        return self._split(self.norm_k(self.to_k(text_BLD))), self._split(self.to_v(text_BLD))

    def cross(
        self, x_BFSD: Tensor, text: Sequence[TextInputs], scenes: Sequence[tuple[int, int, int]], attend: Attend = sdpa
    ) -> Tensor:
        """Attend from every stretch of frames to its own prompt."""
        q_BFSNE = self._split(self.norm_q(self.to_q(x_BFSD)))
        read = [attend(q_BFSNE[:, start:stop].flatten(1, 2), *text[scene]) for scene, start, stop in scenes]
        return self.to_out[0](read[0] if len(read) == 1 else torch.cat(read, 1)).view_as(x_BFSD)

    def among(
        self, x_BFSD: Tensor, rope: Tensor, blind: int = 0, attend: Attend = sdpa, mode: StgMode = "attention_values"
    ) -> Tensor:
        """Attend from every token to all tokens; in the last `blind` videos a token keeps its own value instead (STG).

        mode: with "attention_skip" it keeps its own input.
        """
        x_BLD = x_BFSD.flatten(1, 2)
        attending = x_BLD[: len(x_BLD) - blind]
        angles = torch.view_as_real(rope if rope.ndim == 2 else rope[: len(attending)])
        q, k = rotate(self.norm_q(self.to_q(attending)), angles), rotate(self.norm_k(self.to_k(attending)), angles)
        v = self.to_v(attending if mode == "attention_skip" else x_BLD)
        attended = attend(self._split(q), self._split(k), self._split(v[: len(attending)]))
        if blind:
            own = x_BLD if mode == "attention_skip" else v
            attended = torch.cat([attended, own[len(attending) :]])
        return self.to_out[0](attended).view_as(x_BFSD)

    def _split(self, x: Tensor) -> Tensor:
        """Split heads: (..., D) -> (..., N, E)."""
        return x.unflatten(-1, (self.heads, -1))


class Block(nn.Module):
    """One layer: self-attention, cross-attention and feed-forward, with shift, scale and gate by each token's sigma.

    entries: methods besides forward that are called from outside; a trainer that shards weights gathers them first.
    """

    entries = ("read",)

    def __init__(self, dim: int, heads: int, context_dim: int, eps: float):
        super().__init__()
        self.eps = eps
        self.attn1, self.attn2 = Attention(dim, heads, dim), Attention(dim, heads, context_dim)
        self.ff = FeedForward(dim, 4 * dim, dim, TanhGelu())
        self.scale_shift_table = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(
        self, x_BFSD: Tensor, text: Sequence[TextInputs], call: BlockInputs, blind: int = 0,
        mode: StgMode = "attention_values",
    ) -> Tensor:  # fmt: skip
        """Run the layer. text: see `BlockInputs.text_inputs`.

        blind: videos at the end whose self-attention is perturbed (STG). mode: "attention_values" or "attention_skip".
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = call.sigmas.of(self.scale_shift_table, call.sigmas.blocks)
        normed = modulated(x_BFSD, shift1, scale1, self.eps)
        x_BFSD = gated(x_BFSD, self.attn1.among(normed, call.rope, blind, call.attend, mode), gate1)
        x_BFSD = x_BFSD + self.attn2.cross(x_BFSD, text, call.scenes, call.attend)
        return gated(x_BFSD, self.ff(modulated(x_BFSD, shift2, scale2, self.eps)), gate2)

    def read(self, text_BLD: Tensor) -> KeyValue:
        """Compute the keys and values of a text for cross-attention."""
        return self.attn2.read(text_BLD)
