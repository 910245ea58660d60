"""Recipe `i2v`: image to video in the structure of Wan: a mask and latents of the first frames stand beside x.

All frames share one noise level, and all are trained, known ones too. The new input channels of a network that starts
from another one begin at zero, so that training begins with what it could do. A network that takes CLIP tokens, as those of
Wan 2.1, is shown the first frame through the encoder beside it; ours are told of it beside x alone. Clips may be driven by a track (a voice, a path), of which the network is then told too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models import wan_codec
from longtake.track import Track
from longtake.train.cache import Coder, filled
from longtake.train.config import read_table
from longtake.train.crew import fill_together
from longtake.train.data import Latents, Source
from longtake.train.export import Card, card_of
from longtake.train.footage import Footage
from longtake.train.place import encoding, place
from longtake.train.ranks import ranks, reporting, wait_for_all
from longtake.train.recipes.flow import FlowConfig, beginnings
from longtake.train.sample import Sample
from longtake.train.told import Givens, Tolds, fill_told, load_told, told_of
from longtake.train.video import Video, VideoRecipe

CARD = Card(
    name="pocket-i2v", kind="i2v", plan="crossclip", options={"overlap": 1},
    what="brings a picture of its world to life; trained here",
)  # fmt: skip


@dataclass(frozen=True)
class I2vConfig(FlowConfig):
    """given: how many frames are given, see `told.Givens`. untracked: share of steps without the track, where a track
    drives the clips (source.drive, or footage.track), so that guidance can move away from that."""

    given: Mapping[str, Any] = field(default_factory=dict)
    untracked: float = 0.1


def make(config: Mapping[str, Any], out: Path) -> VideoRecipe:
    """The recipe of a run's table and folder; encodes what is told beside x into the folder when it is first used."""
    settings = read_table(I2vConfig, config, "i2v")
    video = Video(settings, out, card_of(CARD, settings.card, "i2v.card"))
    givens = read_table(Givens, settings.given, "i2v.given")
    wanted = 2 * video.data.channels + givens.stride
    if video.module.config.in_channels != wanted:
        raise ValueError(f"a network that is told of frames beside x takes {wanted} channels: set in_channels")
    _check_track(video, givens.stride)
    tolds = _tolds(video, out / "told", givens)
    seen = video.eyes.on(video.data) if video.eyes else None

    def draw(step: int, rng: torch.Generator) -> Sample:
        lot = video.lot(step, rng)
        sample, numbers = beginnings(settings, video, lot, rng)
        sample = replace(sample, beside=tolds.beside(numbers, lot.frames), image=seen(numbers) if seen else None)
        if not video.data.drive or float(torch.rand((), generator=rng)) < settings.untracked:
            return sample
        return replace(sample, track=tracks(video.data, numbers, lot.frames, givens.stride))

    return VideoRecipe(video, draw, uniform=True)


def tracks(data: Latents | Footage, numbers: Sequence[int], frames: int, stride: int) -> Tensor:
    """What drives the first `frames` latents of clips (B, F, stride * D)."""
    told = [Track(data.driving(number)).sliced(range(frames), 0, stride) for number in numbers]
    return torch.stack(told).flatten(2)


def _check_track(video: Video, stride: int) -> None:
    """ValueError unless the network is told what drives the clips."""
    drive, told = video.data.drive, video.module.config.track_dim
    wanted = stride * video.data.driven if drive else None
    if told != wanted:
        raise ValueError(
            f"clips driven by a {drive} need track_dim = {wanted} in the network"
            if drive
            else f"nothing drives these clips: leave track_dim = {told} out, or set source.drive or footage.track"
        )


def _tolds(video: Video, folder: Path, givens: Givens) -> Tolds:
    if video.codec_folder is None:
        raise ValueError("frames beside x are encoded for training: give the folder of a codec")
    if isinstance(video.data, Footage):
        latents = told_of(video.data, givens, ranks(), reporting())
        wait_for_all()
        return Tolds(givens, latents)
    source, count = video.data.source, max(video.data.clips) + 1
    fill_together(encode_told, folder, source, count, givens, video.codec_folder, done=filled(folder, count))
    return Tolds(givens, load_told(folder))


def encode_told(
    folder: Path, source: Source, count: int, givens: Givens, codec: Path, share: tuple[int, int],
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Do a share of encoding what is told of clips (see `cache.fill_shards`). codec: its folder."""
    net = wan_codec.load(codec, torch.float32, place())
    fill_told(folder, source, count, givens, encoding(net), share, report, Coder.of(net, codec))
