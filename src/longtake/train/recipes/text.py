"""Recipe `text`: a small umT5 encoder learns to tell what a pocket caption says.

Every token, not only the word itself, must name all facts of the sentence, through one linear layer. So a video model
that looks at any token finds all facts, and cross-attention has nothing left to search for.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from longtake.train.loop import write_json
from longtake.train.textnet import TextShape, make_encoder
from longtake.train.tokenizer import make_tokenizer
from longtake.world import caption, sample_facts, vocabulary
from longtake.world.facts import TABLES


@dataclass(frozen=True)
class TextConfig:
    """batch captions a step; with probability `blot` a word nobody knows is put in."""

    batch: int = 64
    blot: float = 0.15
    shape: Mapping[str, Any] | None = None


class TextRecipe:
    """Attribute classification from every token of a caption."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = TextConfig(**config)
        self.tokenizer = make_tokenizer(vocabulary())
        self.shape = TextShape(vocab_size=self.tokenizer.get_vocab_size(), **(self.config.shape or {}))
        encoder = make_encoder(self.shape)
        heads = nn.ModuleDict({name: nn.Linear(self.shape.d_model, len(table)) for name, table in TABLES.items()})
        self.module = nn.ModuleDict({"encoder": encoder, "heads": heads})

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """Cross-entropy of all facts at all tokens."""
        ids, mask, labels = self._batch(int(torch.randint(1 << 62, (), generator=rng)))
        logits = self._logits(ids, mask)
        return sum(
            (
                cross_entropy(logits[name].flatten(0, 1)[mask.flatten() > 0], _each_token(labels[name], mask))
                for name in TABLES
            ),
            torch.zeros(()),
        )

    def check(self, step: int, out: Path) -> dict[str, float]:
        """Share of fresh captions read right, by the mean over tokens."""
        ids, mask, labels = self._batch(10**9, count=256, blot=0.0)
        logits = self._logits(ids, mask)
        weight = mask[..., None] / mask.sum(1)[:, None, None]
        return {
            name: ((logits[name] * weight).sum(1).argmax(1) == labels[name]).float().mean().item() for name in TABLES
        }

    def finish(self, out: Path) -> None:
        """Write the folders text_encoder and tokenizer."""
        save_text(out, self.module["encoder"], self.shape, self.tokenizer)

    def _batch(self, seed: int, count: int | None = None, blot: float | None = None) -> tuple[Tensor, Tensor, dict]:
        rng = random.Random(seed)
        blot = self.config.blot if blot is None else blot
        facts = [sample_facts(rng) for _ in range(count or self.config.batch)]
        encoded = self.tokenizer.encode_batch([self._blotted(caption(fact, rng), rng, blot) for fact in facts])
        ids, mask = torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])
        labels = {n: torch.tensor([table.index(getattr(f, n)) for f in facts]) for n, table in TABLES.items()}
        return ids, mask, labels

    @staticmethod
    def _blotted(text: str, rng: random.Random, blot: float) -> str:
        """Sometimes with an unknown word put in somewhere."""
        words = text.split()
        if rng.random() < blot:
            words.insert(rng.randrange(len(words) + 1), "qqq")
        return " ".join(words)

    def _logits(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Facts as seen from every token, {name: (B, L, values)}."""
        hidden = self.module["encoder"](input_ids=ids, attention_mask=mask).last_hidden_state
        return {name: head(hidden) for name, head in self.module["heads"].items()}


def _each_token(labels: Tensor, mask: Tensor) -> Tensor:
    """The label of a caption at each of its tokens."""
    return labels[:, None].expand(mask.shape)[mask > 0]


def save_text(out: Path, encoder: nn.Module, shape: TextShape, tokenizer: Any) -> None:
    """Write text_encoder/ and tokenizer/ in the layout of a diffusers folder."""
    for name in ("text_encoder", "tokenizer"):
        (out / name).mkdir(parents=True, exist_ok=True)
    write_json(
        out / "text_encoder" / "config.json",
        {"architectures": ["UMT5EncoderModel"], "model_type": "umt5", **asdict(shape)},
    )
    tensors = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items() if "embed_tokens" not in name}
    save_file(tensors, out / "text_encoder" / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(out / "tokenizer" / "tokenizer.json"))
