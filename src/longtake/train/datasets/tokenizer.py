"""The tokenizer of a closed vocabulary: one token per known word, one for all others."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # ids 0, 1, 2, as in umT5
LENGTH = 32  # tokens of every prompt, padding included


def make_tokenizer(words: Sequence[str], length: int = LENGTH) -> Tokenizer:
    """Lower-case words and punctuation marks, an end token, and padding to a fixed length."""
    vocabulary = {word: i for i, word in enumerate((PAD, END, UNKNOWN, ".", ",", *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(pad_id=0, pad_token=PAD, length=length)
    return tokenizer
