"""Prompt embeddings that a caller computed, in place of the text encoder's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from longtake.core.errors import SettingsError
from longtake.models.interfaces import TextEncoder
from longtake.models.model import Model

PROMPT, NEGATIVE = "(given prompt embeddings)", "(given negative prompt embeddings)"


@dataclass(frozen=True)
class GivenEmbeddings:
    """A text encoder that answers with given embeddings (1, L, D) for some prompts, and asks another for all else."""

    encoder: TextEncoder
    given: Mapping[str, Tensor]

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts -> (P, L, D)."""
        found = [self.given[p] if p in self.given else self.encoder.encode([p]) for p in prompts]
        for rows in found:
            for given in self.given.values():
                if rows.shape[1:] != given.shape[1:]:
                    raise SettingsError(
                        f"embeddings of {given.shape[1]} tokens with {given.shape[2]} channels are given, but others have "
                        f"{rows.shape[1]} with {rows.shape[2]}: take all from encode_prompt of this pipeline"
                    )
        return torch.cat(found)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Return the words that the other encoder does not know; none of given embeddings."""
        return () if prompt in self.given else self.encoder.unknown(prompt)

    def cut_off(self, prompt: str) -> str:
        """Return the end of a prompt that the other encoder does not read; nothing of given embeddings."""
        return "" if prompt in self.given else self.encoder.cut_off(prompt)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)


def rows_of(name: str, value: Any) -> list[Tensor]:
    """Return the embedding (1, L, D) of every prompt of a batch (B, L, D). SettingsError for anything else."""
    if not isinstance(value, Tensor):
        raise SettingsError(
            f"{name} must be a tensor (prompts, L, D), as encode_prompt returns, not {type(value).__name__}"
        )
    if value.ndim != 3 or not value.numel() or not value.is_floating_point():
        kind = f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
        raise SettingsError(f"{name} must have the shape (prompts, L, D), in floating point, not {kind}")
    return list(value.detach().split(1))


def with_embeddings(model: Model, prompt: Tensor | None, negative: Tensor | None) -> Model:
    """Return the model with given embeddings (1, L, D) for the texts PROMPT and NEGATIVE."""
    given = {name: value for name, value in ((PROMPT, prompt), (NEGATIVE, negative)) if value is not None}
    encoder = GivenEmbeddings(model.text_encoder, {name: value.to(model.device) for name, value in given.items()})
    return replace(model, text_encoder=encoder) if given else model
