"""What a video has at hand beside its own frames: latents of given pictures and clips, and the embeddings of its prompts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.models.base import Text, TextEncoder
from longtake.plan import Source
from longtake.plans.conditioned import Item
from longtake.tape import Row


@dataclass(frozen=True)
class Stock:
    """Latents (B C h w) of the pictures and clips that stand at some frames, and of the picture the video comes to."""

    items: Sequence[Sequence[Tensor]]
    end: Sequence[Tensor]

    @staticmethod
    def of(items: Sequence[Item], end_B3THW: Tensor | None, encode: Callable[[Tensor], list[Tensor]]) -> Stock:
        """Encode what was given."""
        return Stock([encode(item.frames) for item in items], [] if end_B3THW is None else encode(end_B3THW))

    def latent(self, source: Source, rows: Mapping[int, Row], anchor: Tensor | None) -> Tensor:
        """A clean latent that is not on the tape by itself. rows: of the tape, for copies; anchor: of the shot."""
        if source.kind == "item":
            return self.items[source.item][source.latent]
        if source.kind == "end":
            return self.end[source.latent]
        if source.kind == "copy":
            return rows[source.latent].value
        return rows[0].value if anchor is None else anchor


class Texts:
    """Prompts as a model is told them, each encoded once and kept while it is used. batch: videos told the same."""

    def __init__(self, encoder: TextEncoder, batch: int):
        self.encoder, self.batch = encoder, batch
        self._known: dict[str, Text] = {}

    def __getitem__(self, prompt: str) -> Text:
        if prompt not in self._known:
            with torch.inference_mode():
                embedding = self.encoder.encode([prompt]).expand(self.batch, -1, -1)
            self._known[prompt] = Text(prompt, embedding)
        return self._known[prompt]

    def embedding(self, prompt: str) -> Tensor:
        """Of one video (L, D)."""
        return self[prompt].embedding[0]

    def keep(self, prompts: Collection[str]) -> None:
        """Forget all others."""
        self._known = {prompt: text for prompt, text in self._known.items() if prompt in prompts}
