"""Batches of clips that differ in duration and size: equally many tokens of each, beginnings and ends that are given.

An LTX encoder is causal, so that a short clip is the beginning of a long one: clips are encoded once per size, at the
longest duration, and kept in a folder per size (shards as in `data`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from longtake.noise import token_shift
from longtake.train.cache import (
    SHARDS,
    Coder,
    check_codec,
    claim,
    fill_shards,
    filled,
    numbers_of,
    read_shards,
    stacked,
)
from longtake.train.data import Encode, Source, pool_sprite, source_of
from longtake.train.footage import Footage
from longtake.train.levels import logit_normal, token_levels
from longtake.train.pairs import Pair, draw_kept, draw_tokens, grouped
from longtake.world import Clip, caption, render


@dataclass(frozen=True)
class Given:
    """How often beginnings are given, clean and without loss: the first frame, or several.

    several: that many latents, one of `counts`, at the start, or at the end in a share `end` of those clips.
    """

    first: float = 0.2
    several: float = 0.2
    counts: Sequence[int] = (2, 3, 4, 6)
    end: float = 0.25

    def __post_init__(self) -> None:
        if min(self.first, self.several) < 0 or self.first + self.several > 1:
            raise ValueError(f"shares of given beginnings {self.first} + {self.several} must lie between 0 and 1")
        if not self.counts or min(self.counts) < 1:
            raise ValueError("several given latents are counts of at least one, such as [2, 4]")

    def known(self, frames: int, chance: random.Random) -> Tensor:
        """Which latent frames (F,) of a clip are given; never all."""
        draw, known = chance.random(), torch.zeros(frames, dtype=torch.bool)
        if draw < self.first:
            known[:1] = True
        elif draw < self.first + self.several:
            count = chance.choice(self.counts)
            known = torch.arange(frames) < count
            known = known.flip(0) if chance.random() < self.end else known
        return known if not known.all() else torch.zeros_like(known)


@dataclass(frozen=True)
class Drawing:
    """How batches are drawn. tokens: of a batch. most: share of a clip's tokens that may be dropped.

    levels: "mended" (see `levels.token_levels`) or "published", which starves low noise. even: share of even ones.
    drop: share of videos without a caption.
    """

    tokens: int = 2800
    most: float = 0.2
    levels: str = "mended"
    even: float = 0.1
    drop: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.most < 1:
            raise ValueError(f"a share of {self.most} of the tokens cannot be dropped: give one from 0 to below 1")
        if self.levels not in ("mended", "published"):
            raise ValueError(f'levels is {self.levels!r}: it is "mended" or "published"')

    def level(self, rng: torch.Generator, count: int, tokens: int) -> Tensor:
        """Levels (B,) of videos of so many tokens."""
        if self.levels == "published":
            return logit_normal(rng, count, 0.0, 1.0, token_shift(tokens))
        return token_levels(rng, count, tokens, self.even)


@dataclass(frozen=True)
class Batch:
    """K tokens of each of B clips. video, noise (B K C); level, sprite (B K); known (B K), tokens that are given.

    rope (B K D/2): where they stand. told: captions. pairs: what each clip is; kept: the numbers of its tokens.
    """

    video: Tensor
    noise: Tensor
    level: Tensor
    sprite: Tensor
    known: Tensor
    rope: Tensor
    told: Sequence[str]
    pairs: Sequence[Pair]
    kept: Sequence[Tensor]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        moved: dict[str, Any] = {name: p.to(device) for name, p in vars(self).items() if isinstance(p, Tensor)}
        return replace(self, **moved)


class Lots(Protocol):
    """Clips of pairs, by number."""

    def weight(self, pair: Pair) -> int:
        """How often a pair is drawn, beside others."""

    def draw(self, pair: Pair, chance: random.Random) -> int:
        """The number of one of its clips."""

    def clip(self, pair: Pair, number: int) -> tuple[Tensor, Tensor]:
        """Tokens (N, C) and share of the sprite (N,) of a clip, frame by frame, row by row."""

    def told(self, pair: Pair, number: int, chance: random.Random) -> str:
        """A caption of it."""

    def facts(self) -> dict[str, Any]:
        """What a run must find unchanged to go on; `clips` counts them."""


@dataclass(frozen=True)
class Shots:
    """Clips of a prepared folder: those of a pair are the clips of its bucket, and it is drawn as often as it has some."""

    footage: Footage

    def weight(self, pair: Pair) -> int:
        """See `Lots`."""
        return len(self._numbers(pair))

    def draw(self, pair: Pair, chance: random.Random) -> int:
        """See `Lots`."""
        return chance.choice(self._numbers(pair))

    def clip(self, pair: Pair, number: int) -> tuple[Tensor, Tensor]:
        """See `Lots`; nothing is known of sprites here."""
        tokens = self.footage.latents(number).flatten(1).T
        return tokens, torch.zeros(len(tokens))

    def told(self, pair: Pair, number: int, chance: random.Random) -> str:
        """See `Lots`."""
        return self.footage.caption(number)

    def facts(self) -> dict[str, Any]:
        """See `Lots`."""
        return self.footage.facts()

    def _numbers(self, pair: Pair) -> list[int]:
        return next(numbers for found, numbers in self.footage.buckets if found == pair)


class Clips:
    """Pocket clips of every size in memory, half precision; clip n of a pair is the beginning of clip n of its size.

    coder: whose latents they must be, as far as the folder tells.
    """

    def __init__(self, root: Path, found: Sequence[Pair], coder: Coder | None = None):
        self.latents, self.sprite, self.numbers, self.sources = {}, {}, {}, {}
        sizes = sorted({(pair.height, pair.width) for pair in found})
        self.longest = _encoded_length(root, sizes, max(pair.frames for pair in found))
        for size in sizes:
            folder = root / folder_name(self.longest, size)
            if coder is not None:
                check_codec(folder / "cache.json", coder)
            shards = read_shards(folder)
            self.latents[size] = torch.cat([part["latents"] for part in shards.values()])
            self.sprite[size] = torch.cat([part["sprite"] for part in shards.values()])
            self.numbers[size] = numbers_of({first: part["latents"] for first, part in shards.items()})
            self.sources[size] = source_of(folder)
        self.count = min(len(latents) for latents in self.latents.values())

    def __len__(self) -> int:
        """Of all sizes together."""
        return self.count * len(self.latents)

    def weight(self, pair: Pair) -> int:
        """See `Lots`: every pair as often as any."""
        return 1

    def draw(self, pair: Pair, chance: random.Random) -> int:
        """See `Lots`."""
        return chance.randrange(self.count)

    def facts(self) -> dict[str, Any]:
        """See `Lots`; one source for all sizes, so that it can be told which facts were seen: those of a size go on from
        those of the one before."""
        return {**asdict(next(iter(self.sources.values()))), "clips": len(self)}

    def clip(self, pair: Pair, number: int) -> tuple[Tensor, Tensor]:
        """See `Lots`."""
        size, frames = (pair.height, pair.width), pair.shape[0]
        latents, sprite = self.latents[size][number, :, :frames], self.sprite[size][number, :frames]
        return latents.float().flatten(1).T, sprite.float().flatten()

    def told(self, pair: Pair, number: int, chance: random.Random) -> str:
        """See `Lots`."""
        return caption(self.seen(pair, number).scenes[0].facts, chance)

    def seen(self, pair: Pair, number: int) -> Clip:
        """What a clip shows, as told by the folder of its size, whoever filled it."""
        size = (pair.height, pair.width)
        return self.sources[size].clip(self.numbers[size][number])


def _encoded_length(root: Path, sizes: Sequence[tuple[int, int]], frames: int) -> int:
    """Frames of the shortest clips of all sizes in a folder that are long enough. FileNotFoundError if there are none."""
    found = [{int(p.parent.name.split("x")[0]) for p in root.glob(f"{folder_name('*', s)}/{SHARDS}")} for s in sizes]
    fit = [length for length in set.intersection(*found) if length >= frames]
    if not fit:
        wanted = " and ".join(f"{height} x {width}" for height, width in sizes)
        raise FileNotFoundError(f"no clips of {frames} frames of {wanted} in {root}: encode clips first")
    return min(fit)


def folder_name(frames: int | str, size: tuple[int, int]) -> str:
    """Of the clips of a size."""
    return f"{frames}x{size[0]}x{size[1]}"


@torch.no_grad()
def fill_clips(
    root: Path, found: Sequence[Pair], count: int, seed: int, encode: Encode, share: tuple[int, int] = (0, 1),
    report: Callable[[str], None] = print, coder: Coder | None = None,
) -> None:  # fmt: skip
    """Encode `count` clips of every size that are not yet there. ValueError if the folder holds others, or other latents."""
    longest, stride = max(pair.frames for pair in found), found[0].stride
    for place, size in enumerate(sorted({(pair.height, pair.width) for pair in found})):
        folder, source = root / folder_name(longest, size), Source(longest, 0.0, seed + place * count)
        claim(folder / "cache.json", {**asdict(source), "size": size}, coder)

        def make(numbers: range, source: Source = source, size: tuple[int, int] = size) -> dict[str, Tensor]:
            return stacked([_encoded(source, number, size, stride, encode) for number in numbers])

        fill_shards(folder, count, make, share, report, f"clips of {size[0]} x {size[1]}")


def filled_clips(root: Path, found: Sequence[Pair], count: int) -> bool:
    """Whether `count` clips of every size are there."""
    longest = max(pair.frames for pair in found)
    return all(filled(root / folder_name(longest, (pair.height, pair.width)), count) for pair in found)


def _encoded(source: Source, number: int, size: tuple[int, int], stride: int, encode: Encode) -> dict[str, Tensor]:
    picture = render(source.clip(number), 0, source.frames, size)
    latents = encode((picture.frames * 2 - 1).transpose(0, 1)[None])[0]
    return {"latents": latents, "sprite": pool_sprite(picture.sprite, (latents.shape[-2], latents.shape[-1]), stride)}


class Draw:
    """Draws batches. places: the rotation table of a pair's tokens."""

    def __init__(
        self, clips: Lots, found: Sequence[Pair], how: Drawing, given: Given, places: Callable[[Pair], Tensor]
    ):
        self.clips, self.how, self.given, self.places = clips, how, given, places
        self.groups = grouped(found, how.most)

    def __call__(self, rng: torch.Generator) -> Batch:
        """A batch of one group: as many clips as fit, of each pair as many as its weight says."""
        chance = random.Random(int(torch.randint(1 << 62, (), generator=rng)))
        weights = [[self.clips.weight(pair) for pair in group] for group in self.groups]
        place = chance.choices(range(len(weights)), [sum(each) for each in weights])[0]
        group = self.groups[place]
        kept = draw_kept(rng, group, self.how.most)
        drawn = chance.choices(group, weights[place], k=max(1, self.how.tokens // kept))
        levels = self.how.level(rng, len(drawn), kept)
        rows = [self._row(pair, level, kept, chance, rng) for pair, level in zip(drawn, levels)]
        video, level, sprite, known, rope, told, keep = (list(part) for part in zip(*rows))
        clean = torch.stack(video)
        return Batch(
            clean, torch.randn(clean.shape, generator=rng), torch.stack(level), torch.stack(sprite),
            torch.stack(known), torch.stack(rope), told, drawn, keep,
        )  # fmt: skip

    def _row(self, pair: Pair, level: Tensor, kept: int, chance: random.Random, rng: torch.Generator) -> tuple:
        """Of one clip: video, level, sprite, known, rope of the kept tokens, its caption, and their numbers."""
        number = self.clips.draw(pair, chance)
        video, sprite = self.clips.clip(pair, number)
        frames, rows, columns = pair.shape
        known = self.given.known(frames, chance).repeat_interleave(rows * columns)
        told = "" if chance.random() < self.how.drop else self.clips.told(pair, number, chance)
        keep = draw_tokens(rng, pair.tokens, kept)
        at = torch.where(known, 0.0, level)
        return video[keep], at[keep], sprite[keep], known[keep], self.places(pair)[keep], told, keep
