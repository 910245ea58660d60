"""Recipe `mixed`: an LTX transformer learns clips of several durations and sizes at once, with given beginnings.

Batches are of (duration, size) pairs of about as many tokens; 0 to 20 % of them are dropped so that all have the same, and
those that stay keep their places. One level per video; what is given stands at level 0 and is not in the loss, as in the
relay that makes long videos. Levels follow the published shift by tokens, mended where that starves low noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models import ltx_codec
from longtake.models.base import Model
from longtake.models.ltx import LTXTransformer
from longtake.models.ltx_checkpoint import text_encoder
from longtake.models.ltx_codec import LTXCodec
from longtake.models.ltx_session import LTXSession
from longtake.models.weights import digest, part_files
from longtake.noise import mix
from longtake.plan import Limits
from longtake.train.cache import Coder
from longtake.train.config import ConfigError, read_table
from longtake.train.crew import fill_together
from longtake.train.export import Card, card_of, export
from longtake.train.family import LTX
from longtake.train.footage import Footage, FootageConfig, Sees, open_footage
from longtake.train.mixed import Batch, Clips, Draw, Drawing, Given, Lots, Shots, fill_clips, filled_clips
from longtake.train.pairs import Pair, pairs
from longtake.train.place import at, encoding, place
from longtake.train.ranks import ranks, reporting, wait_for_all
from longtake.train.sample import Sample
from longtake.train.shards import Loss
from longtake.train.start import Origin, keep_shape, network
from longtake.train.video import obeyed, shown, text_files
from longtake.world import FPS, SIDE
from longtake.world.facts import JUDGED

CARD = Card(name="pocket-ltx", plan="relay", options={"window": 193, "overlap": 1}, shift=2.0, family="ltx")
DECODE = {"timestep": 0.05, "noise": 0.05}  # what the recipe `codec` trains a decoder with timesteps to take away


@dataclass(frozen=True)
class MixedConfig:
    """What to train on.

    seconds, sizes (height, width): every duration is trained at every size. clips: of each size. seed: of the first one, where they are encoded here.
    text: folder with text_encoder/ and tokenizer/. codec: folder of an LTX codec. init: a model or a run to start from
    (see `start.network`), whose text encoder and codec are used if no others are named. network: an LTXConfig, or with
    `init` what differs; what the codec decides is filled in. data: folder of latents; without it, they are made in the
    run's folder. folder: one that `longtake data prepare` wrote, in place of clips and data; footage then says in place of
    seconds and sizes, where they differ, how its shots become clips (see `footage.FootageConfig`). drawing, given: see `mixed.Drawing` and `mixed.Given`. sprite: extra weight of the sprite in the loss.
    judged: prompts of a check. card: what the finished model says of itself (see `export.Card`).
    """

    text: str = ""
    codec: str = ""
    init: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    folder: str = ""
    footage: Mapping[str, Any] = field(default_factory=dict)
    seconds: Sequence[float] = (5.0, 8.0, 10.0)
    sizes: Sequence[Sequence[int]] = ((SIDE, SIDE), (64, 96), (48, 64))
    clips: int = 512
    seed: int = 0
    drawing: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    sprite: float = 5.0
    judged: int = 12
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.codec or self.init):
            raise ValueError("there are no latents: give `codec`, the folder of an LTX codec")
        if not (self.text or self.init):
            raise ValueError("there is no text encoder: give `text`, a folder with text_encoder/ and tokenizer/")
        if not self.seconds or not self.sizes or any(len(size) != 2 for size in self.sizes):
            raise ValueError("say at least one duration in `seconds` and one [height, width] in `sizes`")
        if self.footage and not self.folder:
            raise ValueError("footage says how shots of a prepared folder become clips: give `folder` too")


class Mixed:
    """A `Recipe`: the network, its codec and text encoder, and the clips that it learns."""

    uniform = True

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = settings = read_table(MixedConfig, config, "mixed")
        how = read_table(Drawing, settings.drawing, "mixed.drawing")
        given = read_table(Given, settings.given, "mixed.given")
        self.module: LTXTransformer
        self.module, start = network(settings.network, settings.init, reporting(), LTX)
        self.began = start.files if start else []
        self.codec_folder = Path(settings.codec) if settings.codec else _beside(start, "vae")
        self.text_folder = Path(settings.text) if settings.text else _beside(start, "text_encoder").parent
        self.codec: LTXCodec = ltx_codec.load(self.codec_folder, torch.float32, place())
        self.text = text_encoder(self.text_folder, torch.float32, str(place()))
        self._fit(start)
        self.footage = self._shots() if settings.folder else None
        self.fps, self.size = (self.footage.fps, self.footage.usual) if self.footage else (float(FPS), (SIDE, SIDE))
        self.pairs = [pair for pair, _ in self.footage.buckets] if self.footage else self._pairs()
        self.card = card_of(self._suited(), settings.card, "mixed.card")
        self.clips: Lots = Shots(self.footage) if self.footage else self._clips(out)
        self._tables: dict[Pair, Tensor] = {}
        self.draws = Draw(self.clips, self.pairs, how, given, self.places)
        if not ranks()[0]:
            keep_shape(out, self.module.config)

    def _pairs(self) -> list[Pair]:
        return pairs(self.config.seconds, self.config.sizes, self.codec.stride, self.codec.scale, FPS)

    def _shots(self) -> Footage:
        """Clips of a prepared folder, encoded as far as there is room; ranks share the work."""
        settings, codec = self.config, self.codec
        told = {"seconds": settings.seconds, "sizes": settings.sizes, "fps": float(FPS), **settings.footage}
        config = read_table(FootageConfig, told, "mixed.footage")
        height, width = config.sizes[0]
        sees = Sees(
            config.fps, (height, width), view=self.module.config.view(config.fps), step=codec.scale, stride=codec.stride,
            scale=codec.scale, channels=codec.channels, codec=digest(part_files(self.codec_folder)),
        )  # fmt: skip
        footage = open_footage(Path(settings.folder), config, sees, encoding(codec), reporting())
        footage.fill(ranks(), reporting())
        wait_for_all()
        return footage

    def _fit(self, start: Origin | None) -> None:
        """Tell the network what its codec decides. ValueError if the two, or the text encoder, do not go together."""
        config, codec = self.module.config, self.codec.config
        for name, wanted, maker in [
            ("in_channels", codec.latent_channels, "codec"),
            ("out_channels", codec.latent_channels, "codec"),
            ("caption_channels", self.text.encoder.config.d_model, "text encoder"),
        ]:
            if getattr(config, name) != wanted:
                raise ValueError(f"the {maker} gives {wanted} channels: set {name} = {wanted} in the table network")
        told = "causal_temporal_positioning" in self.config.network or (start is not None and _ours(start))
        grown = config.causal_temporal_positioning if told else codec.grown  # as released: from 0.9.5 on
        self.module.config = replace(
            config, stride=codec.stride, scale=codec.scale, causal_temporal_positioning=grown
        )  # fmt: skip

    def _suited(self) -> Card:
        """What the model says of itself, if the config does not."""
        more: dict[str, Any] = {"view": max(pair.shape[0] for pair in self.pairs)}
        more |= {"fps": self.fps, "size": list(self.size)} if self.footage else {}
        return replace(CARD, more=more | ({"decode": DECODE} if self.codec.config.timestep_conditioning else {}))

    def _clips(self, out: Path) -> Clips:
        """The clips of all sizes; those of the run's own folder are encoded first, which the ranks share."""
        settings, root = self.config, out / "latents"
        if settings.data:
            return Clips(Path(settings.data), self.pairs, Coder.of(self.codec, self.codec_folder))
        done, count = filled_clips(root, self.pairs, settings.clips), settings.clips
        fill_together(encode_pairs, root, self.pairs, count, settings.seed, self.codec_folder, done=done)
        return Clips(root, self.pairs)

    def places(self, pair: Pair) -> Tensor:
        """Where the tokens of a pair stand (N, D/2)."""
        if pair not in self._tables:
            frames, rows, columns = pair.shape
            self._tables[pair] = self.module.places(range(frames), rows, columns, self.fps)
        return self._tables[pair]

    # ------------------------------------------------------------ what is learned
    def draw(self, step: int, rng: torch.Generator) -> Batch:
        """The batch of a step."""
        return self.draws(rng)

    def velocity(self, batch: Batch) -> Tensor:
        """The network's velocity (B K C) of a batch, where the network is."""
        batch = batch.to(at(self.module))
        share = batch.level[..., None]
        text = self.text.encode(batch.told).to(share.device)
        noisy = (1 - share) * batch.video + share * batch.noise
        return self.module.tokens(noisy, batch.level, text, batch.rope).transpose(1, 2)

    def loss(self, step: int, rng: torch.Generator) -> Loss:
        """Square of the velocity error over tokens that are to be made, with more weight on the sprite."""
        batch = self.draw(step, rng).to(at(self.module))
        error = (self.velocity(batch) - (batch.noise - batch.video)).pow(2).mean(-1)
        weight = (1 + self.config.sprite * batch.sprite) * ~batch.known
        return Loss((error * weight).sum(), weight.sum().clamp_min(1e-6))

    def dataset(self) -> dict[str, Any]:
        """See `HasData`."""
        return self.clips.facts()

    def frozen(self, init: bool = False) -> Mapping[str, Sequence[Path]]:
        """See `ReadsFrozen`."""
        parts = {"text": text_files(self.text_folder), "codec": part_files(self.codec_folder)}
        return {**parts, **({"init": self.began} if init and self.began else {})}

    def describe(self, step: int, rng: torch.Generator) -> str:
        """See `DescribesBatch`."""
        batch = self.draw(step, rng)
        clips = (f"{pair.name} {words!r}" for pair, words in zip(batch.pairs, batch.told))
        return f"{batch.video.shape[1]} tokens each; {'; '.join(clips)}"

    # ------------------------------------------------------------ what comes of it
    def scores(self) -> Sequence[str]:
        """See `NamesScores`."""
        return () if self.footage or not self.config.judged else JUDGED

    def check(self, step: int, out: Path) -> dict[str, float]:
        """Share of a few prompts that is obeyed, of the pocket world; a contact sheet goes to out."""
        sheet, count = out / f"sheet-{step:06d}.png", self.config.judged
        if not count:
            return {}
        return shown(self.model(), self.footage, count, sheet) if self.footage else obeyed(self.model(), count, sheet)

    def finish(self, out: Path) -> None:
        """Write the folder `model`, which `--model` accepts."""
        facts = {"clips": 0} if self.footage else self.clips.facts()
        clips = {"count": facts.pop("clips"), **facts}
        export(out, self.codec_folder, self.text_folder, out / "model", self.card, clips)

    def model(self) -> Model:
        """The network as it is now, as a model."""
        card, codec = self.card, self.codec
        decode = card.more.get("decode", {})
        codec.timestep = decode.get("timestep", codec.timestep)
        return Model(
            name=f"{card.name} in training", family="ltx", limits=Limits(view=card.more["view"]), codec=codec,
            text=self.text, fps=self.fps, session=lambda: LTXSession(self.module), size=self.size,
            guidance=card.guidance, plan=card.plan, options=card.all_options(), sampling=card.sampling(),
            tokens=math.prod(side // codec.scale for side in self.size), decode_noise=decode.get("noise", 0.0),
            blocks=self.module.config.num_layers, device=str(at(self.module)),
        )  # fmt: skip


class Whole:
    """`Mixed` on clips of one duration and size, of which all tokens are kept: these are samples of whole videos, which
    error recycling stands on. ConfigError if the recipe draws others."""

    uniform = True

    def __init__(self, mixed: Mixed):
        if len(mixed.pairs) > 1 or mixed.draws.how.most:
            raise ConfigError(
                "[recycle] keeps errors of one shape: give settings one of seconds, one of sizes, and drawing.most = 0"
            )
        self.mixed, self.module, self.video = mixed, mixed.module, self
        self.codec_folder, self.frozen = mixed.codec_folder, mixed.frozen
        self.check, self.finish, self.dataset, self.describe = mixed.check, mixed.finish, mixed.dataset, mixed.describe

    def draw(self, step: int, rng: torch.Generator) -> Sample:
        """The sample of a step; all tokens of a frame are at its level."""
        batch, shape = self.mixed.draw(step, rng), self.mixed.pairs[0].shape
        video, noise = (x.mT.unflatten(2, shape) for x in (batch.video, batch.noise))
        level, known, sprite = (x.unflatten(1, shape) for x in (batch.level, batch.known, batch.sprite))
        told = [[(0, words)] for words in batch.told]
        return Sample(video, noise, level[..., 0, 0], sprite, told, known[..., 0, 0])

    def velocity(self, sample: Sample) -> Tensor:
        """The network's velocity (B C F h w) of a sample, where the sample is."""
        there, mixed = at(self.module), self.mixed
        text = mixed.text.encode([words for ((_, words),) in sample.told]).to(there)
        seen, level = mix(sample.video, sample.noise, sample.level).to(there), sample.level.to(there)
        return mixed.module(seen, level, text, fps=mixed.fps).to(sample.video.device)

    def loss(self, step: int, rng: torch.Generator) -> Loss:
        """See `Recipe`."""
        return self.mixed.loss(step, rng)


def encode_pairs(
    root: Path, found: Sequence[Pair], count: int, seed: int, codec: Path, share: tuple[int, int],
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Do a share of encoding clips of every size (see `cache.fill_shards`). codec: its folder."""
    net = ltx_codec.load(codec, torch.float32, place())
    fill_clips(root, found, count, seed, encoding(net), share, report, Coder.of(net, codec))


def _beside(start: Origin | None, name: str) -> Path:
    """The folder of a part of the model that the network came from."""
    if start is None or start.folder is None:
        raise ValueError(f"init has no {name} beside it: give `codec` and `text`, folders that have them")
    return start.folder / name


def _ours(start: Origin) -> bool:
    """Whether the config of a model says everything: those that are released leave some of it to the codec."""
    return start.folder is None or (start.folder / "longtake.json").exists()
