"""Recipe `forcing`: diffusion forcing (Chen et al. 2024, SkyReels-V2) of a Wan transformer on pocket clips.

Every latent frame has its own noise level; the target is the velocity noise - video. Windows of one clean history and
one level (45 %), of one level (35 %), staircases and independent levels (10 % each). A window's caption tells the facts
of its first new frame, so a switch that falls on the end of the history teaches how a new prompt takes over.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from longtake.eval.judge import judge, score
from longtake.eval.pocket import WINDOW, Settings, make, unseen_prompts
from longtake.eval.sheet import save_sheet
from longtake.models import wan_codec
from longtake.models.base import Model
from longtake.models.text import WordText
from longtake.models.wan import WanConfig, WanTransformer, initialise
from longtake.models.wan_session import WanSession
from longtake.noise import mix
from longtake.plan import Limits
from longtake.train.config import read_table
from longtake.train.data import Latents, Source, clips_folder, fill_cache
from longtake.train.export import Card, export
from longtake.train.levels import Mixture, draw_history, draw_levels, patterns
from longtake.train.loop import ranks
from longtake.world import FPS, SIDE, caption

HISTORY, EQUAL = 0, 1  # patterns, see levels.patterns


@dataclass(frozen=True)
class ForcingConfig:
    """What to train on. text: folder with text_encoder/ and tokenizer/. codec: folder of the codec. network: a WanConfig.

    data: folder of latents; without it, `clips` clips are encoded into the run's folder when it is first used.
    frames: latent frames per step, shared out over videos. lengths: (share of the run, latents per video) stages; a
    stage with several lengths draws one per step. steps: of the whole run, as in [loop]. drop: share of windows without
    a caption. sprite: extra weight of the sprite in the loss. judged: prompts of a check.
    """

    text: str
    network: Mapping[str, Any]
    codec: str = ""
    data: str = ""
    clips: int = 3072
    source: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 75
    lengths: Sequence[tuple[float, Sequence[int]]] = ((1.0, (25,)),)
    steps: int = 0
    drop: float = 0.1
    sprite: float = 5.0
    mixture: Mapping[str, float] = field(default_factory=dict)
    judged: int = 12

    def __post_init__(self) -> None:
        if not self.codec and not self.data:
            raise ValueError("forcing needs latents: give the folder of a codec, or `data`, a folder of latents")
        if len(self.lengths) > 1 and not self.steps:
            raise ValueError("forcing has stages of several lengths: say the steps of the whole run, as in [loop]")


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
        self.config = read_table(ForcingConfig, config, "forcing")
        self.mixture = read_table(Mixture, self.config.mixture, "forcing.mixture")
        folder = clips_folder(out, config)
        if not self.config.data:
            source = read_table(Source, self.config.source, "forcing.source")
            encode_clips(folder, source, self.config.clips, Path(self.config.codec))
        self.data = Latents(folder)
        self.text = WordText.load(Path(self.config.text) / "text_encoder", Path(self.config.text) / "tokenizer")
        self.module = WanTransformer(WanConfig(**self.config.network))
        initialise(self.module)
        self.steady = [n for n, clip in enumerate(self.data.clips) if len(clip.scenes) == 1]

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """Weighted mean square of the velocity error over frames that are to be made."""
        batch = self.batch(self._length(step, rng), rng)
        noise = torch.randn(batch.video.shape, generator=rng)
        level = batch.level
        velocity = self.module(mix(batch.video, noise, level), level, self.text.encode(batch.captions))
        error = (velocity - (noise - batch.video)).pow(2).mean(1)  # (B F h w)
        weight = (1 + self.config.sprite * batch.sprite) * (level > 0.05)[:, :, None, None]
        return (error * weight).sum() / weight.sum()

    def batch(self, frames: int, rng: torch.Generator) -> Batch:
        """Windows of `frames` latents at random, with levels and captions."""
        count = max(1, self.config.frames // frames)
        pattern = patterns(rng, count, self.mixture)
        history = draw_history(rng, count, frames)
        level = draw_levels(rng, pattern, history, frames, self.mixture.shift)
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
        """Share of a few prompts that is obeyed, {colour, shape, motion, scenery}; a contact sheet goes to out."""
        if not self.config.codec or not self.config.judged:
            return {}
        model, prompts = self._model(), unseen_prompts(self.config.judged)
        videos = [make(model, prompt, WINDOW, Settings(steps=12, guidance=3.0)) for prompt in prompts]
        save_sheet(out / f"sheet-{step:06d}.png", [(p.text, video) for p, video in zip(prompts, videos)])
        shares = score([prompt.facts for prompt in prompts], [judge(video) for video in videos])
        return {name: share.value for name, share in shares.items()}

    def finish(self, out: Path) -> None:
        """Write the folder `model`, which `--model` accepts."""
        if self.config.codec:
            export(out, Path(self.config.codec), Path(self.config.text), out / "model", Card())

    def _model(self) -> Model:
        """The network as it is now, as a model."""
        codec = wan_codec.load(Path(self.config.codec), torch.float32)
        return Model(
            name="pocket in training",
            family="wan",
            limits=Limits(view=self.module.config.view),
            session=lambda: WanSession(self.module),
            codec=codec,
            text=self.text,
            fps=FPS,
            size=(SIDE, SIDE),
        )


def encode_clips(folder: Path, source: Source, count: int, codec: Path) -> None:
    """Fill a folder with latents; ranks divide the work and wait for each other."""
    net = wan_codec.load(codec, torch.float32)
    fill_cache(folder, source, count, net.encode, ranks())
    if ranks()[1] > 1:
        dist.barrier()


def first_frame(latent: int) -> int:
    """The first output frame of a latent of a causal codec of stride 4."""
    return max(0, 4 * latent - 3)
