"""Clips of a few shapes out of shots of any length, size and frame rate: what a bucket is, and the rules of entry.

A bucket is a duration and a size (see `pairs.Pair`). A shot goes to the size that is nearest to its own shape and not
larger than it, and gives as many clips as fit, the longest first. Frames are taken at the clips' rate; nothing is
slowed down, and a shot that is too slow is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from longtake.data.analysis import Shot
from longtake.data.manifest import Kept
from longtake.train.pairs import Pair

SLACK = 0.05  # of tempo, of frames that come twice, and of size: less than one notices
ALIKE = 0.05  # shapes whose logarithms of height / width differ by less are one shape


class Unfit(ValueError):
    """Why a shot gives no clip."""


@dataclass(frozen=True)
class Clip:
    """A clip of a shot: the stamps of its frames, one of which may come twice, and the bucket that it belongs to."""

    kept: Kept
    stamps: tuple[int, ...]
    pair: Pair

    @property
    def key(self) -> str:
        """Names its pixels: the content of the file, which frames, and their size."""
        facts = [self.kept.sha256, self.stamps, self.pair.height, self.pair.width]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def cropped(self) -> float:
        """Share of its picture that is cut off."""
        (height, width), pair = self.kept.size, self.pair
        scale = max(pair.height / height, pair.width / width)
        return 1 - pair.height * pair.width / (scale * scale * height * width)


def resampled(shot: Shot, fps: float) -> list[int]:
    """Stamps of frames `1 / fps` seconds apart. Unfit if too many would come twice.

    An even shot whose rate is nearly that is taken frame by frame, so that none is left out or comes twice.
    """
    stamps = np.array(shot.stamps)
    seconds = (stamps - stamps[0]) * float(Fraction(shot.base))
    gaps = np.diff(seconds)
    if abs(shot.fps / fps - 1) <= SLACK and (not len(gaps) or gaps.max() < 1.5 * gaps.min()):
        return stamps.tolist()
    wanted = np.arange(max(1, math.floor(shot.seconds * fps + 1e-6))) / fps
    after = np.searchsorted(seconds, wanted).clip(1, max(len(seconds) - 1, 1))
    before = after - 1
    near = before if len(seconds) == 1 else np.where(wanted - seconds[before] <= seconds[after] - wanted, before, after)
    twice = 1 - len(np.unique(near)) / len(near)
    if twice > SLACK:
        raise Unfit(f"too slow: {shot.fps:g} frames per second, or gaps; at {fps:g}, {twice:.0%} would come twice")
    return stamps[near].tolist()


def fitting(size: tuple[int, int], pairs: Sequence[Pair]) -> list[Pair]:
    """The buckets of the size for pictures of (height, width): nearest in shape, then the largest. Unfit if all are larger."""
    height, width = size
    small = [pair for pair in pairs if max(pair.height / height, pair.width / width) <= 1 + SLACK]
    if not small:
        raise Unfit(f"too small: {width}x{height}")
    away = {pair: abs(math.log(height * pair.width / (width * pair.height))) for pair in small}
    alike = [pair for pair in small if away[pair] < min(away.values()) + ALIKE]
    area = max(pair.height * pair.width for pair in alike)
    return [pair for pair in alike if pair.height * pair.width == area]


def clips_of(kept: Kept, pairs: Sequence[Pair], fps: float) -> Iterator[Clip]:
    """The clips of a shot, one behind the other, the longest that fit first. Unfit if there is none."""
    stamps, sizes, start = resampled(kept.shot, fps), fitting(kept.size, pairs), 0
    while room := [pair for pair in sizes if pair.frames <= len(stamps) - start]:
        pair = max(room, key=lambda each: each.frames)
        yield Clip(kept, tuple(stamps[start : start + pair.frames]), pair)
        start += pair.frames
    if not start:
        shortest = min(pair.frames for pair in sizes)
        raise Unfit(f"too short for {shortest} frames at {fps:g} per second")


@dataclass(frozen=True)
class Sorted:
    """clips: of all shots. left: why others gave none, and how many of them."""

    clips: list[Clip]
    left: Counter[str]
    shots: int

    def lines(self) -> Iterator[str]:
        """What became of the shots, for a person."""
        yield f"{len(self.clips)} clips of {self.shots - self.left.total()} shots; {self.left.total()} shots gave none"
        for pair, count in sorted(Counter(clip.pair for clip in self.clips).items(), key=lambda found: -found[1]):
            cropped = np.mean([clip.cropped for clip in self.clips if clip.pair == pair])
            yield f"  {count:6d}  {pair.frames} frames of {pair.width}x{pair.height}, {cropped:.0%} cut off at the edges"
        yield from (f"  {count:6d}  {why}" for why, count in self.left.most_common(8))


def sort(shots: Iterable[Kept], pairs: Sequence[Pair], fps: float) -> Sorted:
    """The clips of shots, in their order."""
    clips, left, count = list[Clip](), Counter[str](), 0
    for kept in shots:
        count += 1
        try:
            clips += clips_of(kept, pairs, fps)
        except Unfit as why:
            left[str(why)] += 1
    return Sorted(clips, left, count)
