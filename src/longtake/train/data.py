"""Pocket clips as training data: made from a number, encoded once, kept as latents on disk.

A cache folder holds cache.json and shards of clips (see `cache`): latents (n, C, F, h, w) float16 and sprite (n, F, h, w)
float16, the share of each latent pixel that the sprite covers. Facts are not stored: clip n of a cache is clip n of its
`Source`, for ever.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from longtake.train.cache import SHARDS, Coder, claim, fill_shards, held, numbers_of, read_shards, stacked
from longtake.train.lot import Lot
from longtake.train.sample import Told
from longtake.world import Clip, Facts, brief, caption, make_clip, render, stories
from longtake.world.driven import DRIVES

Encode = Callable[[Tensor], Tensor]  # frames (B 3 T H W) in [-1, 1] -> normalised latents (B C F h w)


@dataclass(frozen=True)
class Source:
    """Which clips: `frames` long, from `seed` on, with a switch in a share of them. frames is 1 + 4 k.

    drive: what moves the sprite from outside, if anything (see `world.driven`). stories: a file of prompt streams (see
    `world.stories`); each clip then begins with a frame of one prompt and goes over to the next, which is its caption.
    sha256: of that file, filled in.
    """

    frames: int = 121
    switch: float = 0.3
    seed: int = 0
    drive: str = ""
    stories: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.drive and (self.drive not in DRIVES or self.switch):
            raise ValueError(f"drive is {' or '.join(DRIVES)}, in clips without a switch (switch = 0.0)")
        if self.stories and (self.drive or self.switch):
            raise ValueError("clips of stories change by their prompts: set switch = 0.0, and no drive")
        if self.stories and not self.sha256:
            object.__setattr__(self, "sha256", stories.digest(self.stories))

    def clip(self, number: int) -> Clip:
        """Clip `number`, always the same."""
        rng = random.Random(f"pocket {self.seed + number}")
        if self.stories:
            found = stories.passages(self.stories, self.sha256)
            return stories.passage(rng, *found[number % len(found)])
        return make_clip(rng, self.frames, self.switch, self.drive)

    def facts(self) -> dict[str, Any]:
        """Json-able. What came later than the first three and is not used is left out."""
        return {name: value for name, value in asdict(self).items() if value or name in ("frames", "switch", "seed")}


def pool_sprite(sprite: Tensor, size: tuple[int, int], stride: int = 4) -> Tensor:
    """Sprite cover of frames (T, S, S) -> of latents (F, h, w): frame 0 alone, then `stride` frames each."""
    small = adaptive_avg_pool2d(sprite[:, None], size)[:, 0]
    return torch.cat((small[:1], small[1:].unflatten(0, (-1, stride)).mean(1)))


def fill_cache(
    folder: Path,
    source: Source,
    count: int,
    encode: Encode,
    share: tuple[int, int] = (0, 1),
    report: Callable[[str], None] = print,
    coder: Coder | None = None,
) -> None:
    """Encode clips 0..count-1 that are not yet in the folder; may be stopped and started again. share: `fill_shards`.

    ValueError if the folder holds other clips, or those of another codec.
    """
    claim(folder / "cache.json", source.facts(), coder)

    def make(number: int) -> dict[str, Tensor]:
        latents, sprite = _encoded(source.clip(number), source.frames, encode)
        return {"latents": latents, "sprite": sprite}

    fill_shards(folder, count, lambda numbers: stacked([make(number) for number in numbers]), share, report)


def clips_folder(run: Path, config: Mapping[str, Any]) -> Path:
    """Where a forcing run keeps its latents: where its config says, else in its own folder."""
    return Path(config["data"]) if config.get("data") else run / "latents"


def count_clips(folder: Path) -> dict[str, Any]:
    """The source of a cache, and how many clips of it there are."""
    count = sum(held(shard) for shard in folder.glob(SHARDS))
    return {**source_of(folder).facts(), "count": count}


def source_of(folder: Path) -> Source:
    """Of which the clips in a folder are the first."""
    about = json.loads((folder / "cache.json").read_text())
    return Source(**{field.name: about[field.name] for field in fields(Source) if field.name in about})


@torch.no_grad()
def _encoded(clip: Clip, frames: int, encode: Encode) -> tuple[Tensor, Tensor]:
    """Latents (C, F, h, w) and sprite (F, h, w) of a whole clip."""
    picture = render(clip, 0, frames)
    latents = encode((picture.frames * 2 - 1).transpose(0, 1)[None])[0]
    return latents, pool_sprite(picture.sprite, (latents.shape[-2], latents.shape[-1]))


class Latents:
    """A cache in memory, by the numbers of its clips in the source. Takes 2 bytes per number (about 63 kB per 31 latents).

    brief: share of windows whose captions tell the motion alone.
    """

    def __init__(self, folder: Path, brief: float = 0.0):
        shards = read_shards(folder)
        if not shards:
            raise FileNotFoundError(f"no latents in {folder}: encode clips first")
        self.source = source_of(folder)
        if brief and self.source.drive:
            raise ValueError("the motion of these clips is told by a track: a caption that tells it alone says nothing")
        self.brief = brief
        self.latents = torch.cat([part["latents"] for part in shards.values()])
        self.sprite = torch.cat([part["sprite"] for part in shards.values()])
        numbers = numbers_of({first: part["latents"] for first, part in shards.items()})
        self.rows = {number: row for row, number in enumerate(numbers)}
        self.clips = {number: self.source.clip(number) for number in numbers}

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def channels(self) -> int:
        """See `Clips`."""
        return self.latents.shape[1]

    @property
    def drive(self) -> str:
        """See `Clips`."""
        return self.source.drive

    @property
    def driven(self) -> int:
        """See `Clips`."""
        return DRIVES[self.drive] if self.drive else 0

    def driving(self, number: int) -> Tensor:
        """See `Clips`."""
        return torch.from_numpy(self.clips[number].track(0, self.source.frames)).float()

    @cached_property
    def steady(self) -> list[int]:
        """Clips in which nothing is told to change: a passage of a story is told by where it goes."""
        return [n for n, clip in self.clips.items() if len(clip.scenes) == 1 or self.source.stories]

    def lot(self, length: Callable[[torch.Generator], int], rng: torch.Generator) -> Lot:
        """See `Clips`: any clips, at a length that is drawn."""
        frames, longest = length(rng), self.longest(0)
        if frames > longest:
            raise ValueError(f"clips have {longest} latents, but lengths ask for {frames}")
        return Lot(frames, list(self.clips), self.steady, frames)

    def longest(self, number: int) -> int:
        """See `Clips`; all are of one length."""
        return self.latents.shape[2]

    def change(self, number: int) -> int | None:
        """See `Clips`."""
        scenes = self.clips[number].scenes
        return (scenes[1].first + 3) // 4 if len(scenes) > 1 else None

    def caption(self, number: int, latent: int, chance: random.Random) -> str:
        """See `Clips`."""
        return self._said(self.clips[number].facts_at(first_frame(latent)), chance)

    def told(self, number: int, start: int, frames: int, chance: random.Random) -> Told:
        """See `Clips`: each caption tells the facts of the frames from its latent on."""
        least = 1 if self.source.stories else 0  # the first frame is of the prompt before
        facts = [self.clips[number].facts_at(first_frame(max(start + f, least))) for f in range(frames)]
        changes = [0, *(f + 1 for f, (old, new) in enumerate(pairwise(facts)) if old != new)]
        say = brief if self.brief and chance.random() < self.brief else self._said
        return [(f, say(facts[f], chance)) for f in changes]

    def _said(self, facts: Facts, chance: random.Random) -> str:
        return caption(facts, chance, bool(self.drive))  # what drives a sprite is told by a track, not in words

    def facts(self) -> dict[str, Any]:
        """See `Clips`."""
        return {**self.source.facts(), "clips": len(self)}

    def window(self, number: int, start: int, frames: int) -> tuple[Tensor, Tensor]:
        """Latents (C, F, h, w) and sprite (F, h, w) of `frames` latents from `start` on, in float32."""
        row, stop = self.rows[number], start + frames
        return self.latents[row, :, start:stop].float(), self.sprite[row, start:stop].float()


def first_frame(latent: int) -> int:
    """The first output frame of a latent of a causal codec of stride 4."""
    return max(0, 4 * latent - 3)
