"""Recipe `text_encoder`: a small umT5 encoder learns to tell the facts of a pocket caption.

Every token, not only the word itself, must name all facts of the sentence through one linear layer. So a video network
that attends to any token finds all facts, and its cross-attention has nothing to search for.
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

from longtake.models.checkpoints.loading import write_file
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.pocket import caption, sample_facts, vocabulary
from longtake.pocket.facts import TABLES
from longtake.train.datasets.tokenizer import make_tokenizer
from longtake.train.interfaces import Result
from longtake.train.run.checkpoint import write_json
from longtake.train.run.device import device_of
from longtake.train.toml_config import read_table

SMALL: Mapping[str, Any] = dict(d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4)


@dataclass(frozen=True)
class TextEncoderConfig:
    """Settings of the text encoder.

    batch: captions per step. unknown_word_share: share of captions into which an unknown word is inserted. network: a
    T5Config.
    """

    batch: int = 64
    unknown_word_share: float = 0.15
    network: Mapping[str, Any] | None = None


CONFIG = TextEncoderConfig
TINY_LR = 2e-2


class TextEncoderRecipe:
    """A `Recipe`: classification of the facts of a caption from every token of it."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = read_table(CONFIG, config, "text_encoder")
        self.tokenizer = make_tokenizer(vocabulary())
        shape = {"vocab_size": self.tokenizer.get_vocab_size(), **(self.config.network or SMALL)}
        encoder = T5Encoder(read_table(T5Config, shape, "text_encoder.network"))
        initialise(encoder)
        width = encoder.config.d_model
        heads = nn.ModuleDict({name: nn.Linear(width, len(table)) for name, table in TABLES.items()})
        self.module = nn.ModuleDict({"encoder": encoder, "heads": heads})

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Compute the cross-entropy of all facts at all tokens."""
        ids, mask, labels = self._batch(int(torch.randint(1 << 62, (), generator=generator)))
        present = mask > 0
        logits = self._logits(ids, mask)
        losses = [
            cross_entropy(logits[name][present], labels[name][:, None].expand(mask.shape)[present]) for name in TABLES
        ]
        return torch.stack(losses).sum()

    def scores(self) -> Sequence[str]:
        """Return the names of the facts, which are the scores."""
        return tuple(TABLES)

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Return the share of new captions whose facts are classified correctly, by the mean over tokens."""
        ids, mask, labels = self._batch(10**9, count=256, unknown_share=0.0)
        logits = self._logits(ids, mask)
        weight = mask[..., None] / mask.sum(1)[:, None, None]
        return {
            name: ((logits[name] * weight).sum(1).argmax(1) == labels[name]).float().mean().item() for name in TABLES
        }

    def finish(self, out: Path) -> None:
        """Write the folders text_encoder/ and tokenizer/."""
        encoder = self.module["encoder"]
        assert isinstance(encoder, T5Encoder)
        save_text(out, encoder, self.tokenizer)

    def result(self, out: Path) -> Result:
        """Return the folder of the text encoder and its tokenizer."""
        return Result("text encoder", out, key="text")

    def _batch(
        self, seed: int, count: int | None = None, unknown_share: float | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Draw captions; return their tokens (B, L), mask (B, L) and facts {name: (B,)}."""
        rng = random.Random(seed)
        unknown_share = self.config.unknown_word_share if unknown_share is None else unknown_share
        facts = [sample_facts(rng) for _ in range(count or self.config.batch)]
        encoded = self.tokenizer.encode_batch(
            [with_unknown_word(caption(fact, rng), rng, unknown_share) for fact in facts]
        )
        device = device_of(self.module)
        ids, mask = (torch.tensor([getattr(e, n) for e in encoded], device=device) for n in ("ids", "attention_mask"))
        labels = {
            n: torch.tensor([table.index(getattr(f, n)) for f in facts], device=device) for n, table in TABLES.items()
        }
        return ids, mask, labels

    def _logits(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Classify the facts from every token, {name: (B, L, values)}."""
        heads = self.module["heads"]
        encoder: nn.Module = self.module["encoder"]  # type: ignore[assignment]
        assert isinstance(heads, nn.ModuleDict)
        hidden = encoder(ids, mask)
        return {name: head(hidden) for name, head in heads.items()}


def with_unknown_word(text: str, rng: random.Random, share: float) -> str:
    """Insert an unknown word somewhere into a caption, with probability `share`."""
    words = text.split()
    if rng.random() < share:
        words.insert(rng.randrange(len(words) + 1), "qqq")
    return " ".join(words)


@torch.no_grad()
def initialise(encoder: T5Encoder) -> None:
    """Initialise the weights as T5 does, which scales them since its attention has no scale."""
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


def make(config: Mapping[str, Any], out: Path) -> TextEncoderRecipe:
    """Make the recipe from its table and the run's folder."""
    return TextEncoderRecipe(config, out)


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    return {"network": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}, "batch": 16}
