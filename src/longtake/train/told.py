"""What an image-to-video network is told of the first frames of a clip, encoded once and kept on disk.

It is the latents of the first k frames followed by grey ones, exactly as `models.wan_image` makes them. Grey frames long
after the known ones always give the same latents (the codec looks back a few dozen frames), so only the first TAIL
latents after the known ones are encoded and the last of them is repeated; a test measures what that leaves out.

A folder holds told.json and shards (see `cache`) of the clips whose latents lie beside it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from longtake.geometry import frames_of_latents, latents_of_frames
from longtake.models.wan_image import followed_by_grey, known, masked
from longtake.train.cache import Coder, claim, fill_shards, read_shards
from longtake.train.config import ConfigError
from longtake.train.data import Encode, Source
from longtake.train.footage import Footage, Version
from longtake.world import Clip, render

TAIL = 13  # latents after the known ones that are encoded; those behind differ by less than 1e-3


@dataclass(frozen=True)
class Givens:
    """How many frames of a clip are given: each of `counts` with its weight. stride: of the codec, in time.

    mask: marks "all" of them, or the "first" alone, as Stable Video Infinity does. pad: behind them is "grey", or an
    "image" again and again: any frame of the clip, the same always.
    """

    counts: Sequence[int] = (1, 5, 17)
    weights: Sequence[float] = (0.7, 0.15, 0.15)
    stride: int = 4
    mask: Literal["all", "first"] = "all"
    pad: Literal["grey", "image"] = "grey"

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.weights) or not self.counts:
            raise ValueError(
                f"{len(self.counts)} counts of given frames, but {len(self.weights)} weights: give as many"
            )
        if wrong := [n for n in self.counts if n < 1 or (n - 1) % self.stride]:
            raise ValueError(f"{wrong[0]} given frames do not fill whole latents: use 1, {1 + self.stride}, ...")

    def of(self, number: int) -> int:
        """Frames given of clip `number`, always the same."""
        return random.Random(f"given {number}").choices(list(self.counts), list(self.weights))[0]

    def shown(self, number: int, frames: int) -> int | None:
        """Which of so many frames of clip `number` stands behind the given ones, if any."""
        return random.Random(f"behind {number}").randrange(frames) if self.pad == "image" else None

    def marked(self, count: int, latents: int) -> Tensor:
        """The mask (stride, F) of so many given frames."""
        return known(1 if self.mask == "first" else count, latents, self.stride)

    def facts(self) -> dict[str, Any]:
        """What decides the latents."""
        facts = asdict(self)
        return {name: facts[name] for name in ("counts", "weights", "stride", *(["pad"] if self.pad != "grey" else []))}


def told_latents(clip: Clip, frames: int, encode: Encode, stride: int = 4, behind: int | None = None) -> Tensor:
    """Latents (C, k + TAIL, h, w) of the first `frames` frames of a clip, k latents, and grey ones after them, or frame
    `behind` of the clip again and again."""

    def shown(first: int, stop: int) -> Tensor:
        return render(clip, first, stop).frames.transpose(0, 1)[None] * 2 - 1

    image = None if behind is None else shown(behind, behind + 1)
    return encode(with_tail(shown(0, frames), stride, image))[0]


def with_tail(first: Tensor, stride: int, image: Tensor | None = None) -> Tensor:
    """Given frames (1 3 T H W), and grey ones, or an image (1 3 1 H W), to TAIL latents behind them."""
    count = frames_of_latents(latents_of_frames(first.shape[2], stride) + TAIL, stride)
    if image is None:
        return followed_by_grey(first, count)
    return torch.cat([first, image.expand(-1, -1, count - first.shape[2], -1, -1)], 2)


def stretched(latents: Tensor, count: int) -> Tensor:
    """The first `count` latents of (C, F, h, w), whose last one goes on for ever."""
    return latents[:, torch.arange(count).clamp_max(latents.shape[1] - 1)]


@torch.no_grad()
def fill_told(
    folder: Path, source: Source, count: int, givens: Givens, encode: Encode, share: tuple[int, int] = (0, 1),
    report: Callable[[str], None] = print, coder: Coder | None = None,
) -> None:  # fmt: skip
    """Encode what is told of clips 0..count-1 that are not yet in the folder; may be stopped and started again.

    ValueError if the folder holds what is told of other clips, or by another codec.
    """
    about = {**source.facts(), **givens.facts(), "tail": TAIL}
    claim(folder / "told.json", about, coder, "what is told of other clips")

    def make(numbers: range) -> dict[str, Tensor]:
        made = [
            told_latents(source.clip(n), givens.of(n), encode, givens.stride, givens.shown(n, source.frames))
            for n in numbers
        ]
        longest = max(latents.shape[1] for latents in made)
        return {"told": torch.stack([stretched(latents, longest) for latents in made]).half()}

    fill_shards(folder, count, make, share, report, "beginnings")


def load_told(folder: Path) -> Callable[[int], Tensor]:
    """What is told of every clip, in memory."""
    shards = read_shards(folder).items()
    latents = {first + place: each for first, shard in shards for place, each in enumerate(shard["told"])}
    return latents.__getitem__


def told_of(footage: Footage, givens: Givens, share: tuple[int, int], report: Callable[[str], None]) -> Callable:
    """What is told of every clip of a prepared folder: filled, as far as there is room, and read from its store."""
    if short := [pair for pair, _ in footage.buckets if pair.frames < max(givens.counts)]:
        raise ConfigError(f"{max(givens.counts)} frames are given, but there are clips of {short[0].frames}")

    def frames(number: int) -> Tensor:
        behind = givens.shown(number, footage.clips[number].pair.frames)
        image = None if behind is None else footage.frames(number, behind + 1)[:, :, -1:]
        return with_tail(footage.frames(number, givens.of(number)), givens.stride, image)

    also = "" if givens.pad == "grey" else f" {givens.pad}"
    version = Version(frames=frames, name=lambda number: f"told {givens.of(number)} {TAIL}{also}")
    footage.fill(share, report, version)
    return lambda number: footage.latents(number, version)


@dataclass(frozen=True)
class Tolds:
    """What is told of clips. latents: number -> latents (C, F, h, w) of its given frames, followed by grey ones."""

    givens: Givens
    latents: Callable[[int], Tensor]

    def __getitem__(self, number: int) -> tuple[int, Tensor]:
        """Frames given of clip `number`, and their latents."""
        return self.givens.of(number), self.latents(number).float()

    def beside(self, numbers: Sequence[int], frames: int) -> Tensor:
        """What stands beside x for windows of `frames` latents at the start of these clips (B, stride + C, F, h, w)."""
        given, latents = zip(*(self[n] for n in numbers))
        mask = torch.stack([self.givens.marked(count, frames) for count in given])
        return masked(mask, torch.stack([stretched(each, frames) for each in latents]))
