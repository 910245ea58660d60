"""Prompts that are longer than a text encoder reads."""

from __future__ import annotations

from tokenizers import Tokenizer


def unlimited(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy of a tokenizer without its limit of length and without padding."""
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    whole.no_padding()
    return whole


def end_behind(prompt: str, tokenizer: Tokenizer, whole: Tokenizer) -> str:
    """Return the end of a prompt that a tokenizer cuts off. whole: the same tokenizer, `unlimited`."""
    limit = (tokenizer.truncation or {}).get("max_length")
    if limit is None:
        return ""
    room = max(0, limit - whole.num_special_tokens_to_add(False))
    spans = whole.encode(prompt, add_special_tokens=False).offsets
    return prompt[spans[room][0] :].strip() if len(spans) > room else ""
