"""The T5 text encoder, umT5 included, and the closed-vocabulary encoder of small models built on it.

Weight names are those of transformers' UMT5EncoderModel. Shapes: P prompts, L tokens, D width, N heads, E head width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as nnf
from tokenizers import Tokenizer
from torch import Tensor, nn

from longtake.models import weights

ONE_TABLE = ((r"^encoder\.embed_tokens\.weight$", "shared.weight"),)  # some files name the word table by its use


@dataclass(frozen=True)
class T5Config:
    """Shape of an encoder; the names are those of transformers' config.json.

    model_type "umt5" has a table of relative positions in every layer, "t5" shares that of the first.
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
            raise ValueError(f"model_type is {self.model_type!r}; it is 'umt5' or 't5'")

    @classmethod
    def read(cls, folder: Path | str) -> T5Config:
        """From the config.json of a transformers folder, whose many other keys concern training and generation."""
        given: dict[str, Any] = weights.read_json(Path(folder) / "config.json")
        try:
            return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})
        except (ValueError, TypeError) as error:
            raise weights.WeightsError(f"{Path(folder) / 'config.json'}: {error}") from error


def bucket(distance: Tensor, count: int, longest: int) -> Tensor:
    """T5's number for a distance between words: a sign, then exact when near, logarithmic when far."""
    half = count // 2
    exact = half // 2
    away = distance.abs()
    far = torch.log(away.float() / exact) / math.log(longest / exact) * (half - exact)
    far = (exact + far.long()).clamp(max=half - 1)
    return torch.where(away < exact, away, far) + half * (distance > 0)


class SelfAttention(nn.Module):
    """Attention whose scores are not scaled and depend on how far apart two words are."""

    def __init__(self, config: T5Config, table: bool):
        super().__init__()
        self.config = config
        inner = config.num_heads * config.d_kv
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if table:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def bias(self, length: int) -> Tensor:
        """(1, N, L, L): what the distance from each word to each other adds to the score."""
        table, config = self.relative_attention_bias.weight, self.config
        at = torch.arange(length, device=table.device)
        buckets = bucket(
            at - at[:, None], config.relative_attention_num_buckets, config.relative_attention_max_distance
        )
        return table[buckets].permute(2, 0, 1)[None]

    def forward(self, x_PLD: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            part(x_PLD).unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        seen = nnf.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(seen.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """Feed-forward with a GELU gate."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.wi_0, self.wi_1 = (nn.Linear(config.d_model, config.d_ff, bias=False) for _ in range(2))
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(nnf.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class AttentionHalf(nn.Module):
    """Self-attention behind its norm."""

    def __init__(self, config: T5Config, table: bool):
        super().__init__()
        self.SelfAttention = SelfAttention(config, table)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x_PLD: Tensor, bias: Tensor) -> Tensor:
        return x_PLD + self.SelfAttention(self.layer_norm(x_PLD), bias)


class GatedHalf(nn.Module):
    """Feed-forward behind its norm."""

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
        """What this layer's table adds to the scores."""
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
        """hidden (P, 1, 1, L): what is added to the scores of each word, to keep padding out."""
        bias = hidden
        for i, block in enumerate(cast(list[Block], list(self.block))):
            if i < self.tables:
                bias = block.bias(x_PLD.shape[1]) + hidden
            x_PLD = block(x_PLD, bias)
        return self.final_layer_norm(x_PLD)


class T5Encoder(nn.Module):
    """Token numbers to embeddings."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config)

    def forward(self, tokens_PL: Tensor, mask_PL: Tensor | None = None) -> Tensor:
        """Embeddings (P, L, D); words where the mask is 0 are not attended to."""
        x_PLD = self.shared(tokens_PL)
        shown = torch.ones_like(tokens_PL) if mask_PL is None else mask_PL
        return self.encoder(x_PLD, torch.finfo(x_PLD.dtype).min * (shown == 0)[:, None, None].to(x_PLD.dtype))


class WordText:
    """Prompts to embeddings through a closed vocabulary of whole words.

    Prompts are cut or padded to `length` tokens (default: what the tokenizer says, or 32); padding is masked in the
    encoder and zero after it, as Wan does.
    """

    def __init__(self, encoder: T5Encoder, tokenizer: Tokenizer, length: int | None = None):
        self.encoder, self.tokenizer = encoder, tokenizer
        self.length = length or (tokenizer.padding or {}).get("length") or 32
        tokenizer.enable_truncation(self.length)
        tokenizer.enable_padding(pad_id=0, pad_token=tokenizer.id_to_token(0) or "", length=self.length)

    @classmethod
    def load(
        cls, encoder: Path | str, tokenizer: Path | str, dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> WordText:  # fmt: skip
        """From a folder with config.json and safetensors, and one with tokenizer.json."""
        file = Path(tokenizer) / "tokenizer.json"
        try:
            words = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise weights.WeightsError(f"{file} is not a tokenizer: {error}") from error
        return cls(weights.load(T5Encoder, T5Config.read(encoder), encoder, ONE_TABLE, dtype, device), words)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (P, L, D)."""
        found = self.tokenizer.encode_batch(list(prompts))
        device = self.encoder.shared.weight.device
        tokens_PL = torch.tensor([text.ids for text in found], device=device)
        mask_PL = torch.tensor([text.attention_mask for text in found], device=device)
        x_PLD = self.encoder(tokens_PL, mask_PL)
        return x_PLD * mask_PL[..., None].to(x_PLD.dtype)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Words of the prompt that are not in the vocabulary, as written."""
        whole = self._whole.encode(prompt, add_special_tokens=False)
        strange = [prompt[slice(*span)] for id, span in zip(whole.ids, whole.offsets) if id == self._unknown_id]
        return tuple(dict.fromkeys(strange))

    @cached_property
    def _whole(self) -> Tokenizer:
        """The tokenizer without its length."""
        whole = Tokenizer.from_str(self.tokenizer.to_str())
        whole.no_truncation()
        whole.no_padding()
        return whole

    @cached_property
    def _unknown_id(self) -> int | None:
        return self.tokenizer.token_to_id(getattr(self.tokenizer.model, "unk_token", None) or "<unk>")
