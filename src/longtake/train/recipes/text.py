"""Recipe `text`: a small umT5 encoder learns to tell what a pocket caption says.

Every token, not only the word itself, must name all facts of the sentence, through one linear layer. So a video model
that looks at any token finds all facts, and cross-attention has nothing left to search for.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from longtake.models.text import T5Config, T5Encoder
from longtake.models.weights import write_file
from longtake.train.config import read_table
from longtake.train.loop import write_json
from longtake.train.place import at
from longtake.train.tokenizer import make_tokenizer
from longtake.world import caption, sample_facts, vocabulary
from longtake.world.facts import TABLES

SMALL: Mapping[str, Any] = dict(d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4)


@dataclass(frozen=True)
class TextConfig:
    """batch captions a step; with probability `blot` a word nobody knows is put in. network: a T5Config."""

    batch: int = 64
    blot: float = 0.15
    network: Mapping[str, Any] | None = None


class TextRecipe:
    """Attribute classification from every token of a caption."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = read_table(TextConfig, config, "text")
        self.tokenizer = make_tokenizer(vocabulary())
        shape = {"vocab_size": self.tokenizer.get_vocab_size(), **(self.config.network or SMALL)}
        encoder = T5Encoder(read_table(T5Config, shape, "text.network"))
        initialise(encoder)
        width = encoder.config.d_model
        heads = nn.ModuleDict({name: nn.Linear(width, len(table)) for name, table in TABLES.items()})
        self.module = nn.ModuleDict({"encoder": encoder, "heads": heads})

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """Cross-entropy of all facts at all tokens."""
        ids, mask, labels = self._batch(int(torch.randint(1 << 62, (), generator=rng)))
        shown = mask > 0
        logits = self._logits(ids, mask)
        losses = [
            cross_entropy(logits[name][shown], labels[name][:, None].expand(mask.shape)[shown]) for name in TABLES
        ]
        return torch.stack(losses).sum()

    def scores(self) -> Sequence[str]:
        """See `NamesScores`."""
        return tuple(TABLES)

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
        encoder = self.module["encoder"]
        assert isinstance(encoder, T5Encoder)
        save_text(out, encoder, self.tokenizer)

    def _batch(
        self, seed: int, count: int | None = None, blot: float | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Tokens (B, L), their mask (B, L), and the facts {name: (B,)} of captions at random."""
        rng = random.Random(seed)
        blot = self.config.blot if blot is None else blot
        facts = [sample_facts(rng) for _ in range(count or self.config.batch)]
        encoded = self.tokenizer.encode_batch([blotted(caption(fact, rng), rng, blot) for fact in facts])
        there = at(self.module)
        ids, mask = (torch.tensor([getattr(e, n) for e in encoded], device=there) for n in ("ids", "attention_mask"))
        labels = {
            n: torch.tensor([table.index(getattr(f, n)) for f in facts], device=there) for n, table in TABLES.items()
        }
        return ids, mask, labels

    def _logits(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Facts as seen from every token, {name: (B, L, values)}."""
        heads = self.module["heads"]
        encoder: nn.Module = self.module["encoder"]  # type: ignore[assignment]
        assert isinstance(heads, nn.ModuleDict)
        hidden = encoder(ids, mask)
        return {name: head(hidden) for name, head in heads.items()}


def blotted(text: str, rng: random.Random, blot: float) -> str:
    """With probability `blot`, a caption with an unknown word put in somewhere."""
    words = text.split()
    if rng.random() < blot:
        words.insert(rng.randrange(len(words) + 1), "qqq")
    return " ".join(words)


@torch.no_grad()
def initialise(encoder: T5Encoder) -> None:
    """T5's own start: what is not scaled in the attention is scaled in its weights."""
    config = encoder.config
    spread = {
        "shared": 1.0,
        "SelfAttention.q": (config.d_model * config.d_kv) ** -0.5,
        "SelfAttention.k": config.d_model**-0.5,
        "SelfAttention.v": config.d_model**-0.5,
        "SelfAttention.o": (config.num_heads * config.d_kv) ** -0.5,
        "relative_attention_bias": config.d_model**-0.5,
        "wi_0": config.d_model**-0.5,
        "wi_1": config.d_model**-0.5,
        "wo": config.d_ff**-0.5,
    }
    for name, module in encoder.named_modules():
        for end, std in spread.items():
            if name.endswith(end):
                nn.init.normal_(module.weight, std=std)


def save_text(out: Path, encoder: T5Encoder, tokenizer: Tokenizer) -> None:
    """Write text_encoder/ and tokenizer/ in the layout of a diffusers folder."""
    for name in ("text_encoder", "tokenizer"):
        (out / name).mkdir(parents=True, exist_ok=True)
    fixed = {"architectures": ["UMT5EncoderModel"], "dropout_rate": 0.0, "pad_token_id": 0, "eos_token_id": 1}
    write_json(out / "text_encoder" / "config.json", {**fixed, **asdict(encoder.config)})
    tensors = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    write_file(tensors, out / "text_encoder" / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(out / "tokenizer" / "tokenizer.json"))
