"""A text encoder that ignores the prompt, for the toy models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class NullTextEncoder:
    """A `TextEncoder` that gives every prompt the same embedding."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return zeros (P, 1, 1)."""
        return torch.zeros(len(prompts), 1, 1)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Return no words: no prompt is misunderstood."""
        return ()

    def cut_off(self, prompt: str) -> str:
        """Return nothing: a prompt may have any length."""
        return ""
