"""What all recipes for a video network share: settings, latents with their captions, text, checks and the finished model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from longtake.engine import Frames, Rollout
from longtake.eval import driven
from longtake.eval.judge import judge, score
from longtake.eval.pocket import WINDOW, Prompt, unseen_prompts
from longtake.eval.sheet import save_sheet
from longtake.models import wan_codec
from longtake.models.base import Model
from longtake.models.text import WordText
from longtake.models.wan import WanTransformer
from longtake.models.wan_checkpoint import CONTEXT
from longtake.models.wan_image import Teller
from longtake.models.wan_layout import part_folder
from longtake.models.wan_session import WanSession
from longtake.plan import Limits
from longtake.script import Script
from longtake.settings import Settings
from longtake.train.config import read_table
from longtake.train.data import Latents, Source, clips_folder, fill_cache
from longtake.train.export import Card, export
from longtake.train.ranks import ranks
from longtake.train.sample import Sample, Told, velocity
from longtake.train.shards import Loss
from longtake.train.start import keep_shape, network
from longtake.world import FPS, SIDE, caption


@dataclass(frozen=True)
class VideoConfig:
    """What to train on.

    init: a model or run to start from (see `start.network`); its text encoder and codec are used if no others are named.
    network: a WanConfig, or with `init` what differs from it. text: folder with text_encoder/ and tokenizer/. codec:
    folder of the codec. data: folder of latents; without it, `clips` clips of `source` are encoded into the run's folder.
    frames: latent frames per step, shared out over videos. lengths: (share of the run, latents per video) stages; a
    stage with several lengths draws one per step. steps: of the whole run, as in [loop]. drop: share of videos without
    a caption. sprite: extra weight of the sprite in the loss. shift: of the noise levels. judged: prompts of a check.
    card: what the finished model says of itself (see `export.Card`).
    """

    text: str = ""
    codec: str = ""
    init: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    clips: int = 3072
    source: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 75
    lengths: Sequence[tuple[float, Sequence[int]]] = ((1.0, (25,)),)
    steps: int = 0
    drop: float = 0.1
    sprite: float = 5.0
    shift: float = 3.0
    judged: int = 12
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.codec or self.data or self.init):
            raise ValueError("there are no latents: give the folder of a codec, or `data`, a folder of latents")
        if not (self.text or self.init):
            raise ValueError("there is no text encoder: give `text`, a folder with text_encoder/ and tokenizer/")
        if len(self.lengths) > 1 and not self.steps:
            raise ValueError("there are stages of several lengths: say the steps of the whole run, as in [loop]")

    def length(self, step: int, rng: torch.Generator) -> int:
        """Latents per video at this step."""
        part, draw = step / max(self.steps, 1), float(torch.rand((), generator=rng))
        options = next((lengths for until, lengths in self.lengths if part < until), self.lengths[-1][1])
        return options[int(draw * len(options))]


class Video:
    """A network in training, with what it learns from. card: of the finished model."""

    def __init__(self, config: VideoConfig, out: Path, card: Card):
        report = print if not ranks()[0] else lambda line: None
        self.config, self.card = config, card
        self.module: WanTransformer
        self.module, start = network(config.network, config.init, report)
        inside = start.folder if start else None
        self.text_folder = Path(config.text) if config.text else _part(inside, "text_encoder", config.init).parent
        self.codec_folder = Path(config.codec) if config.codec else inside and part_folder(inside, "vae")
        self.text = WordText.load(self.text_folder / "text_encoder", self.text_folder / "tokenizer", torch.float32)
        folder = clips_folder(out, {"data": config.data})
        if not config.data:
            if self.codec_folder is None:
                raise ValueError(f"init {config.init!r} has no codec beside it: give `codec`, or `data`, encoded clips")
            encode_clips(folder, read_table(Source, config.source, "source"), config.clips, self.codec_folder)
        self.data = Latents(folder)
        self.steady = [n for n, clip in enumerate(self.data.clips) if len(clip.scenes) == 1]
        if not ranks()[0]:
            keep_shape(out, self.module.config)

    def draws(self, frames: int, cost: int | None = None) -> int:
        """Videos in a step, if each takes `frames` latents (or costs as much as `cost`)."""
        if frames > self.data.latents.shape[2]:
            raise ValueError(f"clips have {self.data.latents.shape[2]} latents, but lengths ask for {frames}")
        return max(1, self.config.frames // (cost or frames))

    def captions(self, number: int, start: int, frames: int, chance: random.Random) -> Told:
        """Captions of a window of a clip: each tells the facts of the frames from its latent on."""
        if chance.random() < self.config.drop:
            return [(0, "")]
        facts = [self.data.clips[number].facts_at(first_frame(start + f)) for f in range(frames)]
        changes = [0, *(f + 1 for f, (old, new) in enumerate(pairwise(facts)) if old != new)]
        unsaid = bool(self.data.source.drive)  # what drives a sprite is told by a track, not in words
        return [(f, caption(facts[f], chance, unsaid)) for f in changes]

    def velocity(self, sample: Sample, net: WanTransformer | None = None) -> Tensor:
        """The velocity (B C F h w) of a sample by the network in training, or by another one."""
        return velocity(net or self.module, sample, self.text.encode)

    def loss(self, sample: Sample, target: Tensor | None = None) -> Loss:
        """Square of the velocity error over frames that are to be made, with more weight on the sprite.

        target (B C F h w): what the velocity should be, if not noise - video.
        """
        target = sample.target if target is None else target
        error = (self.velocity(sample) - target).pow(2).mean(1)
        weight = (1 + self.config.sprite * sample.sprite) * (sample.level > 0.05)[:, :, None, None]
        return Loss((error * weight).sum(), weight.sum().clamp_min(1e-6))

    # ------------------------------------------------------------ what comes of it
    def check(self, step: int, out: Path) -> dict[str, float]:
        """Share of a few prompts that is obeyed, {colour, shape, motion, scenery}; a contact sheet goes to out."""
        if self.codec_folder is None or not self.config.judged:
            return {}
        if self.data.source.drive:
            return driven.check(self.model(), self.data.source.drive, self.config.judged, out / f"sheet-{step:06d}.png")
        return obeyed(self.model(), self.config.judged, out / f"sheet-{step:06d}.png")

    def finish(self, out: Path) -> None:
        """Write the folder `model`, which `--model` accepts."""
        if self.codec_folder is not None:
            clips = {**self.data.source.facts(), "count": len(self.data)}
            export(out, self.codec_folder, self.text_folder, out / "model", self.card, clips)

    def model(self) -> Model:
        """The network as it is now, as a model."""
        assert self.codec_folder is not None
        codec, config = wan_codec.load(self.codec_folder, torch.float32), self.module.config
        kind = self.card.kind
        limits = Limits(config.view, config.block, kind == "df", CONTEXT[kind], causal=config.causal)
        return Model(
            name=f"{self.card.name} in training", family="wan", limits=limits, codec=codec, text=self.text, fps=FPS,
            session=lambda: WanSession(self.module, tell=Teller(codec) if kind == "i2v" else None), size=(SIDE, SIDE),
            guidance=self.card.guidance, plan=self.card.plan, options=self.card.all_options(),
            sampling=self.card.sampling(), track=(config.track_dim or 0) // codec.stride,
        )  # fmt: skip


@dataclass(frozen=True)
class VideoRecipe:
    """A `Recipe`: the samples that `draw` makes of a step and its chance, and the loss of them.

    uniform: whether all samples make the same calls of the network, see `Recipe`.
    """

    video: Video
    draw: Callable[[int, torch.Generator], Sample]
    uniform: bool = False

    @property
    def module(self) -> WanTransformer:
        """See `Recipe`."""
        return self.video.module

    def loss(self, step: int, rng: torch.Generator) -> Loss:
        """See `Recipe`."""
        return self.video.loss(self.draw(step, rng))

    def dataset(self) -> dict[str, Any]:
        """See `HasData`."""
        return {**self.video.data.source.facts(), "clips": len(self.video.data)}

    def describe(self, step: int, rng: torch.Generator) -> str:
        """See `DescribesBatch`."""
        sample = self.draw(step, rng)
        told = (" then ".join(repr(words) for _, words in captions) for captions in sample.told)
        return f"{sample.frames} latents each; {'; '.join(told)}"

    def check(self, step: int, out: Path) -> dict[str, float]:
        """See `Recipe`."""
        return self.video.check(step, out)

    def finish(self, out: Path) -> None:
        """See `Recipe`."""
        self.video.finish(out)


def obeyed(model: Model, count: int, sheet: Path) -> dict[str, float]:
    """Share of prompts that a model obeys, {colour, shape, motion, scenery}; a contact sheet is written."""
    prompts = unseen_prompts(count)
    videos = [sampled(model, prompt) for prompt in prompts]
    save_sheet(sheet, [(prompt.text, video) for prompt, video in zip(prompts, videos)])
    shares = score([prompt.facts for prompt in prompts], [judge(video) for video in videos])
    return {name: share.value for name, share in shares.items()}


def sampled(model: Model, prompt: Prompt) -> Tensor:
    """The model's video of a prompt (T, 3, S, S) in [0, 1]; from the true first frame, if it makes video from images."""
    settings = Settings.resolve(model, prompt.text, seconds=WINDOW / model.fps, seed=prompt.seed)
    image = prompt.rendered(1).transpose(0, 1)[None] * 2 - 1 if model.limits.context == "beside" else None
    rollout = Rollout(
        model, Script.from_facts(settings.script), settings.make_plan(), seeds=(settings.seed,), start=image,
        guidance=settings.guidance, fps=settings.fps,
    )  # fmt: skip
    frames = torch.cat([event.frames[0] for event in rollout.run() if isinstance(event, Frames)])
    return frames.permute(0, 3, 1, 2).float() / 255


def encode_clips(folder: Path, source: Source, count: int, codec: Path) -> None:
    """Fill a folder with latents; ranks divide the work and wait for each other."""
    net = wan_codec.load(codec, torch.float32)
    fill_cache(folder, source, count, net.encode, ranks())
    if ranks()[1] > 1:
        dist.barrier()


def first_frame(latent: int) -> int:
    """The first output frame of a latent of a causal codec of stride 4."""
    return max(0, 4 * latent - 3)


def _part(folder: Path | None, name: str, init: str) -> Path:
    if folder is None:
        raise ValueError(f"init {init!r} has no text encoder beside it: give `text`, a folder that has one")
    return part_folder(folder, name)
