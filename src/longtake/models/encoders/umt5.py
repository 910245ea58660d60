"""The text encoder of released checkpoints: umT5-XXL (or T5-XXL) with its own tokenizer and an open vocabulary.

Shapes: P prompts, L tokens, D width.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import ftfy
import torch
from tokenizers import Tokenizer
from torch import Tensor

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.safetensors_headers import Entry, numbered
from longtake.models.encoders.t5 import ONE_TABLE, T5Config, T5Encoder
from longtake.models.encoders.token_limit import end_behind, unlimited

LENGTH = 512
END, PAD = "</s>", "<pad>"

GGUF: weights.Names = (  # the encoder in GGUF files, named as llama.cpp does, to transformers
    (r"^enc\.blk\.(\d+)\.attn_rel_b\.", r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"^enc\.blk\.(\d+)\.attn_([qkvo])\.", r"encoder.block.\1.layer.0.SelfAttention.\2."),
    (r"^enc\.blk\.(\d+)\.attn_norm\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^enc\.blk\.(\d+)\.ffn_gate\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^enc\.blk\.(\d+)\.ffn_up\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^enc\.blk\.(\d+)\.ffn_down\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
    (r"^enc\.blk\.(\d+)\.ffn_norm\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^enc\.output_norm\.", "encoder.final_layer_norm."),
    (r"^token_embd\.", "shared."),
)

NAMES: weights.Names = (  # the encoder of original Wan folders, and ComfyUI's, to transformers
    *weights.WRAPPERS,
    *GGUF,
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
    """Read the config of an encoder from its renamed tensors, for files that come without config.json."""
    first = "encoder.block.0.layer.0.SelfAttention."
    try:
        vocabulary, width = entries["shared.weight"].shape
        buckets, heads = entries[f"{first}relative_attention_bias.weight"].shape
        inner = entries[f"{first}q.weight"].shape[0]
        feed, d_kv = entries["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0], inner // heads
    except (LookupError, ValueError, ArithmeticError) as error:
        raise weights.WeightsError(f"these tensors are no T5 text encoder: {error}") from error
    own = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" in entries
    layers = numbered(entries, r"^encoder\.block\.(\d+)\.")
    return T5Config(
        vocab_size=vocabulary, d_model=width, d_kv=d_kv, d_ff=feed, num_layers=layers, num_heads=heads,
        relative_attention_num_buckets=buckets, model_type="umt5" if own or layers == 1 else "t5",
    )  # fmt: skip


def cleaned(prompt: str) -> str:
    """Clean a prompt as Wan, SkyReels-V2 and Stable Video Infinity do: mend it with ftfy, unescape HTML, collapse white space.

    ftfy makes curly quotes straight and full-width letters and commas, of which the default negative prompt is full, ASCII.
    """
    return re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(prompt)))).strip()


def stripped(prompt: str) -> str:
    """Strip white space from both ends of a prompt, which is all that LTX-Video does to it."""
    return prompt.strip()


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json, given itself or by its folder. Raises WeightsError if it is missing or damaged."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise weights.WeightsError(f"{file} is missing: copy tokenizer.json of google/umt5-xxl there")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise weights.WeightsError(f"{file} is not a tokenizer: {error}") from error


class UmT5Text:
    """A `TextEncoder` that cuts or pads prompts to `length` tokens; padding is zero after the encoder, as published.

    clean: what is done to a prompt before the tokenizer reads it, which differs by family.
    """

    def __init__(
        self, encoder: T5Encoder, tokenizer: Tokenizer, length: int = LENGTH, clean: Callable[[str], str] = cleaned
    ):
        self.encoder, self.tokenizer, self.length, self.clean = encoder, tokenizer, length, clean
        pad = tokenizer.token_to_id(PAD) or 0
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(pad_id=pad, pad_token=tokenizer.id_to_token(pad) or PAD, length=length)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts -> embeddings (P, L, D). The encoder runs as many tokens as the longest prompt has; the rest is zero."""
        found = self.tokenizer.encode_batch([self.clean(prompt) for prompt in prompts])
        device = self.encoder.shared.weight.device
        tokens_PL = torch.tensor([text.ids for text in found], device=device)
        mask_PL = torch.tensor([text.attention_mask for text in found], device=device)
        most = max(1, int(mask_PL.sum(1).max()))
        x_PLD = self.encoder(tokens_PL[:, :most], mask_PL[:, :most])
        whole = x_PLD.new_zeros(*tokens_PL.shape, x_PLD.shape[-1])
        whole[:, :most] = x_PLD * mask_PL[:, :most, None].to(x_PLD.dtype)
        return whole

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Return no words: an open vocabulary spells unknown words in pieces."""
        return ()

    def cut_off(self, prompt: str) -> str:
        """Return the end of the cleaned prompt that lies behind `length` tokens."""
        return end_behind(self.clean(prompt), self.tokenizer, self._whole)

    @cached_property
    def _whole(self) -> Tokenizer:
        return unlimited(self.tokenizer)
