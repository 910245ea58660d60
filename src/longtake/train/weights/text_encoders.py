"""Text encoders of a training run: frozen, loaded from a folder with text_encoder/ and tokenizer/."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers.models import WordLevel

from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.umt5 import UmT5Text, read_tokenizer
from longtake.models.encoders.word_text import WordText
from longtake.train.run.device import process_device


def load_text_encoder(folder: Path) -> WordText | UmT5Text:
    """Load the text encoder of a folder, in float32: one with a closed vocabulary of words, or umT5."""
    text = WordText.load(folder / "text_encoder", folder / "tokenizer", torch.float32, device=process_device())
    if isinstance(text.tokenizer.model, WordLevel):
        return text
    return UmT5Text(text.encoder, read_tokenizer(folder / "tokenizer"))


def text_encoder_files(folder: Path) -> list[Path]:
    """Return the files of a text encoder and its tokenizer."""
    return [*weights.part_files(folder / "text_encoder"), *sorted((folder / "tokenizer").glob("*.*"))]
