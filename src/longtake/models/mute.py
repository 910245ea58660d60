"""A text encoder for worlds that do not read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Mute:
    """Every prompt is the same to it."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        return torch.zeros(len(prompts), 1, 1)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """See `TextEncoder`."""
        return ()
