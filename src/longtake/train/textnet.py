"""The small umT5 encoder that the pocket model reads captions with."""

from __future__ import annotations

import torch
from dataclasses import asdict, dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class TextShape:
    """Size of the encoder; the names are those of transformers' UMT5Config."""

    vocab_size: int
    d_model: int = 128
    d_kv: int = 32
    d_ff: int = 256
    num_layers: int = 2
    num_heads: int = 4
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.0
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "gated-gelu"
    pad_token_id: int = 0
    eos_token_id: int = 1


def make_encoder(shape: TextShape) -> nn.Module:
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(**asdict(shape)))


def embed(encoder: nn.Module, tokenizer, prompts: list[str]) -> Tensor:
    """(P, L, D); zero where a prompt is padded, as Wan does."""
    encoded = tokenizer.encode_batch(prompts)
    ids, mask = torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])
    with torch.no_grad():
        return encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
