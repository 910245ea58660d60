"""The text encoder of LTX-Video: T5, whose padding is masked and then zero."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.models.encoders.umt5 import NAMES, UmT5Text, read_tokenizer, stripped
from longtake.models.encoders.word_text import WordText

WORDS = 256  # tokens of a prompt


def text_encoder(folder: Path, dtype: torch.dtype | None, device: str = "cpu") -> WordText | UmT5Text:
    """Load the T5 encoder of a folder with text_encoder/ and tokenizer/."""
    text, load = text_parts(folder, dtype, device)
    text.encoder = load()
    return text


def text_parts(
    folder: Path, dtype: torch.dtype | None, device: str
) -> tuple[WordText | UmT5Text, Callable[[], T5Encoder]]:  # fmt: skip
    """Return the text encoder without its network, and the function that loads the network.

    Padding is masked in the encoder and zero after it, by which the transformer recognises it.
    """
    tokenizer = read_tokenizer_of(folder / "tokenizer")
    part = folder / "text_encoder"
    none: Any = None
    words = isinstance(tokenizer.model, WordLevel)
    text = WordText(none, tokenizer) if words else UmT5Text(none, tokenizer, WORDS, stripped)
    return text, lambda: weights.load(T5Encoder, T5Config.read(part), part, NAMES, dtype, device)


def read_tokenizer_of(folder: Path) -> Tokenizer:
    """Read tokenizer.json, or with transformers the sentencepiece model that the published folders have."""
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer(folder)
    try:
        library = import_module("transformers")
        return library.AutoTokenizer.from_pretrained(str(folder), local_files_only=True).backend_tokenizer
    except Exception as error:  # of many types, depending on what is installed
        raise weights.WeightsError(
            f"{folder} holds no tokenizer.json: copy that of google/t5-v1_1-xxl there, or install transformers and "
            f"sentencepiece to read its model ({type(error).__name__})"
        ) from error
