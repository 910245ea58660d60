"""A tiny text encoder with random weights, for the tiny checkpoints of the contract tests."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from longtake.models.encoders.t5 import T5Config, T5Encoder

WORDS = ["<pad>", "<unk>", "a", "red", "blue", "ball", "drifts", "over", "the", "sea"]


def random_text(folder: Path, width: int) -> None:
    """Write a text encoder of this width into text_encoder/, and a tokenizer of ten words into tokenizer/."""
    config = T5Config(vocab_size=len(WORDS), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    (folder / "text_encoder").mkdir()
    save_file(T5Encoder(config).state_dict(), folder / "text_encoder" / "model.safetensors")
    (folder / "text_encoder" / "config.json").write_text(json.dumps(asdict(config)), encoding="utf-8", newline="\n")
    (folder / "tokenizer").mkdir()
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
