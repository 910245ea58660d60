"""What all recipes for a video network share: settings, latents with their captions, text, checks and the finished model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn.functional import interpolate

from longtake.data.captioner import evenly
from longtake.engine import Rollout
from longtake.eval import driven
from longtake.eval.judge import judge, score
from longtake.eval.pocket import WINDOW, unseen_prompts
from longtake.eval.sheet import save_sheet
from longtake.events import Frames
from longtake.models import wan_codec, weights
from longtake.models.base import Model
from longtake.models.text import WordText
from longtake.models.umt5 import UmT5Text, read_tokenizer
from longtake.models.wan import WanTransformer
from longtake.models.wan_checkpoint import CONTEXT
from longtake.models.wan_image import Teller
from longtake.models.wan_layout import part_folder
from longtake.models.wan_session import WanSession
from longtake.plan import Limits
from longtake.script import Script
from longtake.settings import Settings
from longtake.track import Track
from longtake.train.cache import Coder, check_codec, filled
from longtake.train.config import read_table
from longtake.train.crew import fill_together
from longtake.train.data import Latents, Source, clips_folder, fill_cache
from longtake.train.export import Card, export
from longtake.train.footage import Footage, FootageConfig, Sees, made_by, open_footage
from longtake.train.lot import Lot
from longtake.train.place import at, encoding, place
from longtake.train.ranks import ranks, reporting, wait_for_all
from longtake.train.sample import Sample, Told, velocity
from longtake.train.seen import Eyes
from longtake.train.shards import Loss
from longtake.train.start import keep_shape, network
from longtake.world import FPS, SIDE
from longtake.world.facts import JUDGED


@dataclass(frozen=True)
class VideoConfig:
    """What to train on.

    init: a model or run to start from (see `start.network`); its text encoder and codec are used if no others are named.
    network: a WanConfig, or with `init` what differs from it. text: folder with text_encoder/ and tokenizer/. codec:
    folder of the codec. data: folder of latents; without it, `clips` clips of `source` are encoded into the run's folder.
    frames: latent frames per step, shared out over videos. lengths: (share of the run, latents per video) stages; a
    stage with several lengths draws one per step. steps: of the whole run, as in [loop]. drop: share of videos without
    a caption. brief: share of videos whose captions tell the motion alone. sprite: extra weight of the sprite in the
    loss. floor: frames at or below this noise level are ones to go on from, and not in the loss. shift: of the noise
    levels. judged: prompts of a check. card: what the finished model says of itself (see `export.Card`).

    image_encoder: folder of the CLIP encoder, for a network that is shown images through one; with `init` that beside it.

    folder: one that `longtake data prepare` wrote, in place of data, clips and source; footage then says in place of
    lengths how its shots become clips (see `footage.FootageConfig`), and `frames` counts latents of its first size.
    """

    text: str = ""
    codec: str = ""
    image_encoder: str = ""
    init: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    clips: int = 3072
    source: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 75
    lengths: Sequence[tuple[float, Sequence[int]]] = ((1.0, (25,)),)
    steps: int = 0
    drop: float = 0.1
    brief: float = 0.0
    sprite: float = 5.0
    floor: float = 0.05
    shift: float = 3.0
    judged: int = 12
    card: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    footage: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.folder and (self.data or self.source):
            raise ValueError("clips come from one place: give `folder`, or `data`, or `source`")
        if self.folder and self.brief:
            raise ValueError("captions of a prepared folder are as they are: brief is for clips of the pocket world")
        if self.footage and not self.folder:
            raise ValueError("footage says how shots of a prepared folder become clips: give `folder` too")
        if not (self.codec or self.data or self.init):
            raise ValueError("there are no latents: give the folder of a codec, or `data`, a folder of latents")
        if not (self.text or self.init):
            raise ValueError("there is no text encoder: give `text`, a folder with text_encoder/ and tokenizer/")
        if not _are_stages(self.lengths):
            raise ValueError(
                f"lengths is {self.lengths!r}: it is a list of stages, each a share of the run and the latents of its videos, "
                "such as [[0.5, [5, 9]], [1.0, [25]]]"
            )
        if len(self.lengths) > 1 and not self.steps:
            raise ValueError("there are stages of several lengths: say the steps of the whole run, as in [loop]")
        if not 0 <= self.floor < 1:
            raise ValueError(
                f"floor is {self.floor}: it is a noise level from 0 to below 1, above which frames are learned"
            )

    def length(self, step: int, rng: torch.Generator) -> int:
        """Latents per video at this step."""
        part, draw = step / max(self.steps, 1), float(torch.rand((), generator=rng))
        options = next((lengths for until, lengths in self.lengths if part < until), self.lengths[-1][1])
        return options[int(draw * len(options))]


class Video:
    """A network in training, with what it learns from. card: of the finished model."""

    def __init__(self, config: VideoConfig, out: Path, card: Card):
        report = reporting()
        self.config, self.card = config, card
        self.module: WanTransformer
        self.module, start = network(config.network, config.init, report)
        self.began = start.files if start else []
        inside = start.folder if start else None
        self.text_folder = Path(config.text) if config.text else _part(inside, "text_encoder", config.init).parent
        self.codec_folder = Path(config.codec) if config.codec else inside and part_folder(inside, "vae")
        eyes = Path(config.image_encoder) if config.image_encoder else inside and inside / "image_encoder"
        self.eyes = Eyes.of(self.module.config, eyes)
        self.text = text_of(self.text_folder)
        self.data: Latents | Footage = self._footage(inside) if config.folder else self._pocket(out)
        if not ranks()[0]:
            keep_shape(out, self.module.config)

    def _pocket(self, out: Path) -> Latents:
        """Clips of the pocket world, encoded if they are not yet there."""
        config, folder = self.config, clips_folder(out, {"data": self.config.data})
        if not config.data:
            source = read_table(Source, config.source, "source")
            codec_folder, count = self._codec_folder("`data`, encoded clips"), config.clips
            fill_together(encode_clips, folder, source, count, codec_folder, done=filled(folder, count))
        elif self.codec_folder is not None:
            codec = wan_codec.load(self.codec_folder, torch.float32)
            check_codec(folder / "cache.json", Coder.of(codec, self.codec_folder))
        return Latents(folder, brief=config.brief)

    def _footage(self, model: Path | None) -> Footage:
        """Clips of a prepared folder, encoded as far as there is room; ranks share the work. model: with longtake.json."""
        config = read_table(FootageConfig, self.config.footage, "footage")
        folder, net = self._codec_folder("another `init`"), self.module.config
        codec = wan_codec.load(folder, torch.float32, place())
        sees = Sees(
            *made_by(model, config), view=net.view, step=codec.scale * net.patch_size[1], stride=codec.stride,
            scale=codec.scale, channels=codec.config.z_dim, codec=weights.digest(weights.part_files(folder)),
        )  # fmt: skip
        footage = open_footage(Path(self.config.folder), config, sees, encoding(codec), reporting())
        self._warn(footage)
        footage.fill(ranks(), reporting())
        wait_for_all()
        return footage

    def _warn(self, footage: Footage) -> None:
        """Tell of captions that are missing, and of words that the text encoder does not know."""
        told = {words for number in range(len(footage)) for _, words in footage.captions(number)}
        strange = sorted({word for text in told for word in self.text.unknown(text)})
        if strange:
            reporting()(
                f"the text encoder does not know {len(strange)} words of the captions: {', '.join(strange[:8])}"
            )
        if "" in told:
            reporting()("some clips have no caption, and count as videos without one")

    def _codec_folder(self, otherwise: str) -> Path:
        if self.codec_folder is None:
            raise ValueError(f"init {self.config.init!r} has no codec beside it: give `codec`, or {otherwise}")
        return self.codec_folder

    def frozen(self, init: bool) -> dict[str, Sequence[Path]]:
        """See `ReadsFrozen`."""
        parts: dict[str, Sequence[Path]] = {"text": text_files(self.text_folder)}
        if self.codec_folder is not None:
            parts["codec"] = weights.part_files(self.codec_folder)
        if self.eyes:
            parts["image_encoder"] = weights.files(self.eyes.folder)
        return parts | ({"init": self.began} if init and self.began else {})

    def lot(self, step: int, rng: torch.Generator) -> Lot:
        """What a step draws its windows from."""
        return self.data.lot(lambda chance: self.config.length(step, chance), rng)

    def draws(self, cost: int) -> int:
        """Videos in a step, if each costs as much as so many latents."""
        return max(1, self.config.frames // cost)

    def captions(self, number: int, start: int, frames: int, chance: random.Random) -> Told:
        """Captions of a window of a clip: each tells the facts of the frames from its latent on."""
        if chance.random() < self.config.drop:
            return [(0, "")]
        return self.data.told(number, start, frames, chance)

    def velocity(self, sample: Sample, net: WanTransformer | None = None) -> Tensor:
        """The velocity (B C F h w) of a sample by the network in training, or by another one; where the sample is."""
        net = net or self.module
        there = at(net)
        found = velocity(net, sample.to(there), lambda words: self.text.encode(words).to(there))
        return found.to(sample.video.device)

    def loss(self, sample: Sample, target: Tensor | None = None) -> Loss:
        """Square of the velocity error over frames that are to be made, with more weight on the sprite.

        target (B C F h w): what the velocity should be, if not noise - video.
        """
        sample = sample.to(at(self.module))
        target = sample.target if target is None else target.to(at(self.module))
        error = (self.velocity(sample) - target).pow(2).mean(1)
        weight = (1 + self.config.sprite * sample.sprite) * (sample.level > self.config.floor)[:, :, None, None]
        return Loss((error * weight).sum(), weight.sum().clamp_min(1e-6))

    # ------------------------------------------------------------ what comes of it
    def scores(self) -> Sequence[str]:
        """Names of what `check` gives."""
        if self.codec_folder is None or not self.config.judged:
            return ()
        if isinstance(self.data, Footage):
            return ()
        return driven.SCORES if self.data.drive else JUDGED

    def check(self, step: int, out: Path) -> dict[str, float]:
        """Share of a few prompts that is obeyed, {colour, shape, motion, scenery}; a contact sheet goes to out."""
        if self.codec_folder is None or not self.config.judged:
            return {}
        if isinstance(self.data, Footage):
            return shown(self.model(), self.data, self.config.judged, out / f"sheet-{step:06d}.png")
        if self.data.drive:
            return driven.check(self.model(), self.data.drive, self.config.judged, out / f"sheet-{step:06d}.png")
        return obeyed(self.model(), self.config.judged, out / f"sheet-{step:06d}.png")

    def finish(self, out: Path) -> None:
        """Write the folder `model`, which `--model` accepts."""
        if self.codec_folder is not None:
            facts, more = dict(self.data.facts()), {}
            if isinstance(self.data, Footage):
                facts, more = {"clips": 0}, {"fps": self.data.fps, "size": list(self.data.usual)}
            card, clips = replace(self.card, more={**more, **self.card.more}), {"count": facts.pop("clips"), **facts}
            eyes = self.eyes.folder if self.eyes else None
            export(out, self.codec_folder, self.text_folder, out / "model", card, clips, eyes=eyes)

    def model(self) -> Model:
        """The network as it is now, as a model."""
        assert self.codec_folder is not None
        codec, config = wan_codec.load(self.codec_folder, torch.float32, at(self.module)), self.module.config
        kind, fps, size = self.card.kind, float(FPS), (SIDE, SIDE)
        tell = Teller(codec, self.eyes.net if self.eyes else None) if kind == "i2v" else None
        if isinstance(self.data, Footage):
            fps, size = self.data.fps, self.data.usual
        limits = Limits(config.view, config.block, kind == "df", CONTEXT[kind], causal=config.causal)
        return Model(
            name=f"{self.card.name} in training", family="wan", limits=limits, codec=codec, text=self.text, fps=fps,
            session=lambda: WanSession(self.module, tell=tell), size=size,
            guidance=self.card.guidance, plan=self.card.plan, options=self.card.all_options(),
            sampling=self.card.sampling(), track=(config.track_dim or 0) // codec.stride, device=str(at(self.module)),
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
        return self.video.data.facts()

    def frozen(self, init: bool = False) -> Mapping[str, Sequence[Path]]:
        """See `ReadsFrozen`."""
        return self.video.frozen(init)

    def describe(self, step: int, rng: torch.Generator) -> str:
        """See `DescribesBatch`."""
        sample = self.draw(step, rng)
        told = (" then ".join(repr(words) for _, words in captions) for captions in sample.told)
        return f"{sample.frames} latents each; {'; '.join(told)}"

    def scores(self) -> Sequence[str]:
        """See `NamesScores`."""
        return self.video.scores()

    def check(self, step: int, out: Path) -> dict[str, float]:
        """See `Recipe`."""
        return self.video.check(step, out)

    def finish(self, out: Path) -> None:
        """See `Recipe`."""
        self.video.finish(out)


def obeyed(model: Model, count: int, sheet: Path) -> dict[str, float]:
    """Share of prompts that a model obeys, {colour, shape, motion, scenery}; a contact sheet is written."""
    prompts = unseen_prompts(count)
    told = model.limits.context == "beside"
    videos = [
        sampled(model, p.text, p.seed, WINDOW, p.rendered(1).transpose(0, 1)[None] * 2 - 1 if told else None)
        for p in prompts
    ]
    save_sheet(sheet, [(prompt.text, video) for prompt, video in zip(prompts, videos)])
    shares = score([prompt.facts for prompt in prompts], [judge(video) for video in videos])
    return {name: share.value for name, share in shares.items()}


def shown(model: Model, footage: Footage, count: int, sheet: Path) -> dict[str, float]:
    """A contact sheet of videos of a few captions of the data, if there are clips of the usual size. No scores."""
    usual = [n for n, clip in enumerate(footage.clips) if (clip.pair.height, clip.pair.width) == footage.usual]
    rows = []
    for number in evenly(usual, count):
        text, frames = footage.caption(number), footage.clips[number].pair.frames
        first = footage.frames(number, 1) if model.limits.context == "beside" else None
        track = Track(footage.driving(number)) if footage.drive and model.track else None
        rows.append((text, small(sampled(model, text, number, frames, first, track))))
    if rows:
        save_sheet(sheet, rows, columns=6, scale=1)
    return {}


def sampled(
    model: Model, text: str, seed: int, frames: int, image: Tensor | None = None, track: Track | None = None
) -> Tensor:
    """The model's video of a prompt (T, 3, H, W) in [0, 1], so many frames long; image (1 3 1 H W): its first frame;
    track: what drives it."""
    settings = Settings.resolve(model, text, seconds=frames / model.fps, seed=seed)
    rollout = Rollout(
        model, Script.from_facts(settings.script), settings.make_plan(), seeds=(settings.seed,), start=image,
        guidance=settings.guidance, fps=settings.fps, track=track,
    )  # fmt: skip
    made = torch.cat([event.frames[0] for event in rollout.run() if isinstance(event, Frames)])
    return made.permute(0, 3, 1, 2).float() / 255


def small(video: Tensor, side: int = 128) -> Tensor:
    """A video (T, 3, H, W) for a contact sheet."""
    share = min(1.0, side / min(video.shape[2:]))
    return video if share == 1 else interpolate(video, scale_factor=share, mode="area")


def text_of(folder: Path) -> WordText | UmT5Text:
    """The text encoder in text_encoder/ and tokenizer/ of a folder: of whole words, or umT5."""
    text = WordText.load(folder / "text_encoder", folder / "tokenizer", torch.float32, device=place())
    if isinstance(text.tokenizer.model, WordLevel):
        return text
    return UmT5Text(text.encoder, read_tokenizer(folder / "tokenizer"))


def text_files(folder: Path) -> list[Path]:
    """What a text encoder is made from, its tokenizer too."""
    return [*weights.part_files(folder / "text_encoder"), *sorted((folder / "tokenizer").glob("*.*"))]


def encode_clips(
    folder: Path, source: Source, count: int, codec: Path, share: tuple[int, int], report: Callable[[str], None]
) -> None:
    """Do a share of filling a folder with latents (see `cache.fill_shards`). codec: its folder."""
    net = wan_codec.load(codec, torch.float32, place())
    fill_cache(folder, source, count, encoding(net), share, report, Coder.of(net, codec))


def _are_stages(lengths: Any) -> bool:
    """Whether these are (share of the run, latents per video) stages."""
    if not isinstance(lengths, list | tuple):
        return False
    for stage in lengths:
        match stage:
            case [int() | float(), [_, *_] as latents] if all(isinstance(n, int) and n > 0 for n in latents):
                continue
        return False
    return bool(lengths)


def _part(folder: Path | None, name: str, init: str) -> Path:
    if folder is None:
        raise ValueError(f"init {init!r} has no text encoder beside it: give `text`, a folder that has one")
    return part_folder(folder, name)
