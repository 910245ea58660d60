"""The T5 text encoder, umT5 included.

Weight names are those of transformers' UMT5EncoderModel. Shapes: P prompts, L tokens, D width, N heads, E head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.checkpoints import loading as weights

ONE_TABLE = (
    (r"^encoder\.embed_tokens\.weight$", "shared.weight"),
)  # some files name the token embedding by its second use


@dataclass(frozen=True)
class T5Config:
    """Shape of an encoder; the names are those of transformers' config.json.

    model_type: "umt5" has a table of relative positions in every layer, "t5" shares that of the first layer.
    """

    vocab_size: int
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "gated-gelu"
    model_type: str = "umt5"

    def __post_init__(self):
        if self.feed_forward_proj != "gated-gelu":
            raise ValueError(f"feed_forward_proj is {self.feed_forward_proj!r}; only 'gated-gelu' is supported")
        if self.model_type not in ("umt5", "t5"):
            raise ValueError(f"model_type is {self.model_type!r}; it must be 'umt5' or 't5'")

    @classmethod
    def read(cls, folder: Path | str) -> T5Config:
        """Read the config.json of a transformers folder; its keys for training and generation are ignored."""
        file = Path(folder) / "config.json"
        stated = weights.read_json(file)
        weights.check_quantisation(stated, file)
        return weights.as_config(cls, stated, file)


def position_bucket(distance: Tensor, count: int, longest: int) -> Tensor:
    """Return T5's bucket of a distance between tokens: signed, exact for near tokens, logarithmic for far ones."""
    half = count // 2
    exact = half // 2
    away = distance.abs()
    far = torch.log(away.float() / exact) / math.log(longest / exact) * (half - exact)
    far = (exact + far.long()).clamp(max=half - 1)
    return torch.where(away < exact, away, far) + half * (distance > 0)


class SelfAttention(nn.Module):
    """Self-attention with unscaled scores and a learned bias per relative position."""

    def __init__(self, config: T5Config, table: bool):
        super().__init__()
        self.config = config
        inner = config.num_heads * config.d_kv
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if table:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def bias(self, length: int) -> Tensor:
        """Return the relative position bias (1, N, L, L) that is added to the scores."""
        table, config = self.relative_attention_bias.weight, self.config
        at = torch.arange(length, device=table.device)
        buckets = position_bucket(
            at - at[:, None], config.relative_attention_num_buckets, config.relative_attention_max_distance
        )
        return table[buckets].permute(2, 0, 1)[None]

    def forward(self, x_PLD: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            part(x_PLD).unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        attended = nnf.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(attended.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """A feed-forward layer with a GELU gate."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.wi_0, self.wi_1 = (nn.Linear(config.d_model, config.d_ff, bias=False) for _ in range(2))
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(nnf.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class AttentionHalf(nn.Module):
    """The attention half of a layer, with its norm."""

    def __init__(self, config: T5Config, table: bool):
        super().__init__()
        self.SelfAttention = SelfAttention(config, table)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x_PLD: Tensor, bias: Tensor) -> Tensor:
        return x_PLD + self.SelfAttention(self.layer_norm(x_PLD), bias)


class GatedHalf(nn.Module):
    """The feed-forward half of a layer, with its norm."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.DenseReluDense = Gated(config)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x_PLD: Tensor) -> Tensor:
        return x_PLD + self.DenseReluDense(self.layer_norm(x_PLD))


class Block(nn.Module):
    """One layer: attention, then feed-forward."""

    def __init__(self, config: T5Config, table: bool):
        super().__init__()
        self.layer = nn.ModuleList([AttentionHalf(config, table), GatedHalf(config)])

    def bias(self, length: int) -> Tensor:
        """Return the relative position bias of this layer."""
        return cast(AttentionHalf, self.layer[0]).SelfAttention.bias(length)

    def forward(self, x_PLD: Tensor, bias: Tensor) -> Tensor:
        return self.layer[1](self.layer[0](x_PLD, bias))


class Stack(nn.Module):
    """All layers, and a norm at the end."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.tables = config.num_layers if config.model_type == "umt5" else 1
        self.block = nn.ModuleList(Block(config, i < self.tables) for i in range(config.num_layers))
        self.final_layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x_PLD: Tensor, hidden: Tensor) -> Tensor:
        """Run all layers. hidden: (P, 1, 1, L), added to the scores of each token, to mask padding."""
        bias = hidden
        for i, block in enumerate(cast(list[Block], list(self.block))):
            if i < self.tables:
                bias = block.bias(x_PLD.shape[1]) + hidden
            x_PLD = block(x_PLD, bias)
        return self.final_layer_norm(x_PLD)


class T5Encoder(nn.Module):
    """The encoder: token numbers to embeddings."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config)

    def forward(self, tokens_PL: Tensor, mask_PL: Tensor | None = None) -> Tensor:
        """Encode tokens (P, L) -> embeddings (P, L, D); tokens with mask 0 are not attended to."""
        x_PLD = self.shared(tokens_PL)
        shown = torch.ones_like(tokens_PL) if mask_PL is None else mask_PL
        return self.encoder(x_PLD, torch.finfo(x_PLD.dtype).min * (shown == 0)[:, None, None].to(x_PLD.dtype))
