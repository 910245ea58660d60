"""Clips of a few durations and sizes, cut from shots of any length, size and frame rate.

A shot goes to the size nearest to its own aspect ratio that is not larger than it, and gives as many clips as fit, the
longest first. Frames are sampled at the frame rate of the clips; nothing is slowed down, and a shot with too low a frame
rate is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from longtake.core.units import pixels
from longtake.data.manifest import PreparedShot
from longtake.data.shots.analysis import Shot
from longtake.train.datasets.buckets import Bucket, ShotClip, UnfitShot, fitting

SLACK = 0.05  # tolerance of tempo and of the share of repeated frames, below what is visible


def resampled(shot: Shot, fps: float) -> list[int]:
    """Return the timestamps of frames `1 / fps` seconds apart. UnfitShot if too many frames would come twice.

    A shot with a constant frame rate near `fps` keeps all its frames, each once.
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
        raise UnfitShot(f"too slow: {shot.fps:g} frames per second, or gaps; at {fps:g}, {twice:.0%} would be repeated")
    return stamps[near].tolist()


def clips_of(kept: PreparedShot, buckets: Sequence[Bucket], fps: float) -> Iterator[ShotClip]:
    """Cut a shot into clips, one after the other, the longest that fit first. UnfitShot if there is none."""
    stamps, suited, start = resampled(kept.shot, fps), fitting(kept.size, buckets), 0
    while room := [each for each in suited if each.frames <= len(stamps) - start]:
        bucket = max(room, key=lambda each: each.frames)
        yield ShotClip(kept, tuple(stamps[start : start + bucket.frames]), bucket)
        start += bucket.frames
    if not start:
        shortest = min(each.frames for each in suited)
        raise UnfitShot(f"too short for {shortest} frames at {fps:g} per second")


@dataclass(frozen=True)
class ClipSelection:
    """The clips of a prepared folder. clips: of all shots. rejected: reasons why shots gave none, counted. shots: all."""

    clips: list[ShotClip]
    rejected: Counter[str]
    shots: int

    def lines(self) -> Iterator[str]:
        """Describe the selection in lines for a person."""
        used = self.shots - self.rejected.total()
        yield f"{len(self.clips)} clips of {used} shots; {self.rejected.total()} shots gave none"
        for bucket, count in sorted(Counter(clip.bucket for clip in self.clips).items(), key=lambda found: -found[1]):
            cropped = np.mean([clip.cropped for clip in self.clips if clip.bucket == bucket])
            size = f"{bucket.frames} frames of {pixels((bucket.height, bucket.width))}"
            yield f"  {count:6d}  {size}, {cropped:.0%} cropped at the edges"
        yield from (f"  {count:6d}  {why}" for why, count in self.rejected.most_common(8))


def select_clips(shots: Iterable[PreparedShot], buckets: Sequence[Bucket], fps: float) -> ClipSelection:
    """Cut all shots into clips, in their order."""
    clips, rejected, count = list[ShotClip](), Counter[str](), 0
    for kept in shots:
        count += 1
        try:
            clips += clips_of(kept, buckets, fps)
        except UnfitShot as why:
            rejected[str(why)] += 1
    return ClipSelection(clips, rejected, count)


# ---------------------------------------------------------------- clips that are not trained on
# what is kept together: a video, since its shots resemble each other; of a single video a shot; of a single shot a clip
TOGETHER: tuple[Callable[[ShotClip], Any], ...] = (
    lambda clip: clip.kept.sha256,
    lambda clip: [clip.kept.sha256, clip.kept.shot.first],
    lambda clip: clip.key,
)


def held_out_clips(clips: Sequence[ShotClip], share: float) -> frozenset[int]:
    """Choose the numbers of the clips to hold out: about a share of them, at least one if there are two.

    The choice follows from the content of the clips, so the same folder gives the same clips.
    """
    if not share or len(clips) < 2:
        return frozenset()
    groups: dict[str, list[int]] = {}
    for together in TOGETHER:
        groups = {}
        for number, clip in enumerate(clips):
            name = hashlib.sha256(json.dumps(together(clip)).encode()).hexdigest()
            groups.setdefault(name, []).append(number)
        if len(groups) > 1:
            break
    chosen: list[int] = []
    for _, numbers in sorted(groups.items()):
        if len(chosen) + len(numbers) <= share * len(clips):
            chosen += numbers
    smallest = min(groups.values(), key=len)
    return frozenset(chosen or (smallest if len(groups) > 1 else []))
