"""Recipe `forcing`: diffusion forcing (Chen et al. 2024, SkyReels-V2) of a Wan transformer on pocket clips.

Every latent frame has its own noise level; the target is the velocity noise - video. Windows of one clean history and
one level (45 %), of one level (35 %), staircases and independent levels (20 %). A window's caption tells the facts of
its first new frame, so a switch that falls on the end of the history teaches how a new prompt takes over.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtake.models.wan import WanConfig, WanTransformer, initialise
from longtake.noise import mix
from longtake.train.data import Latents
from longtake.train.levels import Mixture, draw_history, draw_levels, patterns
from longtake.world import caption

HISTORY, EQUAL = 0, 1  # patterns, see levels.patterns


@dataclass(frozen=True)
class ForcingConfig:
    """What to train on. data: the cache of latents; text: folder with text_encoder/ and tokenizer/.

    tokens: latent frames per step, shared out over videos. lengths: (share of the run, latents per video) stages;
    a stage with several lengths draws one per step. sprite: extra weight of the sprite in the loss. network: WanConfig.
    """

    data: str
    text: str
    network: Mapping[str, Any]
    frames: int = 260
    lengths: tuple[tuple[float, tuple[int, ...]], ...] = ((1.0, (25,)),)
    drop: float = 0.1
    sprite: float = 5.0
    mixture: Mixture = Mixture()
    steps: int = 0
    judge: int = 24
    codec: str = ""


@dataclass(frozen=True)
class Batch:
    """Windows of video (B C F h w), sprite (B F h w), levels (B F) and one caption each."""

    video: Tensor
    sprite: Tensor
    level: Tensor
    captions: list[str]


class ForcingRecipe:
    """Velocity matching with a noise level per frame."""

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = ForcingConfig(**config)
        self.data = Latents(Path(self.config.data))
        self.text = load_text(Path(self.config.text))
        self.module = WanTransformer(WanConfig(**self.config.network))
        initialise(self.module)
        self.steady = [n for n, clip in enumerate(self.data.clips) if len(clip.scenes) == 1]

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """Weighted mean square of the velocity error over frames that are to be made."""
        batch = self.batch(self._length(step, rng), rng)
        noise = torch.randn(batch.video.shape, generator=rng)
        level = batch.level
        velocity = self.module(mix(batch.video, noise, level), level, self.text(batch.captions))
        error = (velocity - (noise - batch.video)).pow(2).mean(1)  # (B F h w)
        weight = (1 + self.config.sprite * batch.sprite) * (level > 0.05)[:, :, None, None]
        return (error * weight).sum() / weight.sum()

    def batch(self, frames: int, rng: torch.Generator) -> Batch:
        """Windows of `frames` latents at random, with levels and captions."""
        count = max(1, self.config.frames // frames)
        pattern = patterns(rng, count, self.config.mixture)
        history = draw_history(rng, count, frames)
        level = draw_levels(rng, pattern, history, frames, self.config.mixture.shift)
        chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
        windows = [self._window(int(p), int(h), frames, chance) for p, h in zip(pattern, history)]
        video, sprite, captions = zip(*windows)
        return Batch(torch.stack(video), torch.stack(sprite), level, list(captions))

    def _window(self, pattern: int, history: int, frames: int, chance: random.Random) -> tuple[Tensor, Tensor, str]:
        """One window and its caption: anywhere in a clip with history, at the start of a steady clip without."""
        number = chance.randrange(len(self.data)) if pattern == HISTORY else chance.choice(self.steady)
        clip, last = self.data.clips[number], self.data.latents.shape[2] - frames
        start, first_new = (0 if pattern == EQUAL else chance.randint(0, last)), 0
        if pattern == HISTORY:
            if len(clip.scenes) > 1 and chance.random() < 0.75:
                start = min(max((clip.scenes[1].first + 3) // 4 - history, 0), last)
            first_new = start + history
        facts = clip.facts_at(first_frame(first_new))
        words = "" if chance.random() < self.config.drop else caption(facts, chance)
        return *self.data.window(number, start, frames), words

    def _length(self, step: int, rng: torch.Generator) -> int:
        """Latents per video at this step."""
        part, draw = step / max(self.config.steps, 1), float(torch.rand((), generator=rng))
        options = next((lengths for until, lengths in self.config.lengths if part < until), self.config.lengths[-1][1])
        return options[int(draw * len(options))]

    def check(self, step: int, out: Path) -> dict[str, float]:
        """Judge a few generated clips."""
        return {}

    def finish(self, out: Path) -> None:
        """Nothing: `longtake.train.export` makes a model folder from the newest checkpoint."""


def first_frame(latent: int) -> int:
    """The first output frame of a latent of a causal codec of stride 4."""
    return max(0, 4 * latent - 3)


def load_text(folder: Path):
    """Captions -> embeddings (B, L, D), by a frozen encoder."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    import json
    from longtake.train.textnet import TextShape, embed, make_encoder

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    about = json.loads((folder / "text_encoder" / "config.json").read_text())
    encoder: nn.Module = make_encoder(
        TextShape(**{k: v for k, v in about.items() if k in TextShape.__dataclass_fields__})
    )
    encoder.load_state_dict(load_file(folder / "text_encoder" / "model.safetensors"), strict=False)
    encoder.requires_grad_(False)
    return lambda captions: embed(encoder, tokenizer, captions)
