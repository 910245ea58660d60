"""The text encoder of released Wan checkpoints: umT5-XXL and its own tokenizer, 512 tokens, nothing unknown to it.

Shapes: P prompts, L tokens, D width.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from longtake.models import weights
from longtake.models.headers import Entry, numbered
from longtake.models.text import ONE_TABLE, T5Config, T5Encoder

LENGTH = 512
END, PAD = "</s>", "<pad>"

NAMES: weights.Names = (  # the encoder of original Wan folders, and ComfyUI's, to transformers
    (r"^spiece_model$", None),  # ComfyUI packs the tokenizer with the weights
    *ONE_TABLE,
    (r"^token_embedding\.", "shared."),
    (r"^norm\.", "encoder.final_layer_norm."),
    (r"^blocks\.(\d+)\.", r"encoder.block.\1."),
    (r"(block\.\d+)\.norm1\.", r"\1.layer.0.layer_norm."),
    (r"(block\.\d+)\.norm2\.", r"\1.layer.1.layer_norm."),
    (r"(block\.\d+)\.attn\.", r"\1.layer.0.SelfAttention."),
    (r"(block\.\d+)\.pos_embedding\.embedding\.", r"\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"(block\.\d+)\.ffn\.gate\.0\.", r"\1.layer.1.DenseReluDense.wi_0."),
    (r"(block\.\d+)\.ffn\.fc1\.", r"\1.layer.1.DenseReluDense.wi_1."),
    (r"(block\.\d+)\.ffn\.fc2\.", r"\1.layer.1.DenseReluDense.wo."),
)


def shape(entries: dict[str, Entry]) -> T5Config:
    """The config of an encoder whose renamed tensors are these; for files that come without config.json."""
    first = "encoder.block.0.layer.0.SelfAttention."
    try:
        vocabulary, width = entries["shared.weight"].shape
        buckets, heads = entries[f"{first}relative_attention_bias.weight"].shape
        inner = entries[f"{first}q.weight"].shape[0]
        feed = entries["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise weights.WeightsError(f"this is no T5 text encoder: {error}") from error
    own = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" in entries
    layers = numbered(entries, r"^encoder\.block\.(\d+)\.")
    return T5Config(
        vocab_size=vocabulary, d_model=width, d_kv=inner // heads, d_ff=feed, num_layers=layers, num_heads=heads,
        relative_attention_num_buckets=buckets, model_type="umt5" if own or layers == 1 else "t5",
    )  # fmt: skip


def cleaned(prompt: str) -> str:
    """A prompt as the published pipelines clean it: broken encodings mended if ftfy is there, HTML undone, one space."""
    if find_spec("ftfy") is not None:
        prompt = import_module("ftfy").fix_text(prompt)
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in tokenizer.json, which may be given itself or by its folder."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise weights.WeightsError(f"{file} is missing: copy tokenizer.json of google/umt5-xxl there")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise weights.WeightsError(f"{file} is not a tokenizer: {error}") from error


class UmT5Text:
    """Prompts to embeddings, cut or padded to `length` tokens; padding is zero after the encoder, as published."""

    def __init__(self, encoder: T5Encoder, tokenizer: Tokenizer, length: int = LENGTH):
        self.encoder, self.tokenizer, self.length = encoder, tokenizer, length
        pad = tokenizer.token_to_id(PAD) or 0
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(pad_id=pad, pad_token=tokenizer.id_to_token(pad) or PAD, length=length)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (P, L, D). Only the words of the longest prompt go through the encoder; the rest is zero anyway."""
        found = self.tokenizer.encode_batch([cleaned(prompt) for prompt in prompts])
        device = self.encoder.shared.weight.device
        tokens_PL = torch.tensor([text.ids for text in found], device=device)
        mask_PL = torch.tensor([text.attention_mask for text in found], device=device)
        most = max(1, int(mask_PL.sum(1).max()))
        x_PLD = self.encoder(tokens_PL[:, :most], mask_PL[:, :most])
        whole = x_PLD.new_zeros(*tokens_PL.shape, x_PLD.shape[-1])
        whole[:, :most] = x_PLD * mask_PL[:, :most, None].to(x_PLD.dtype)
        return whole

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """See `TextEncoder`: an open vocabulary spells what it does not know."""
        return ()
