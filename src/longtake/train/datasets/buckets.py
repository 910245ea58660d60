"""Buckets of durations and sizes, and batches of about equally many tokens from them.

Tokens are dropped rather than padded or packed, 0 to 20 % of each clip, and those that stay keep their positions
(LTX-Video, section on training).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.geometry import frames_of_latents, frames_of_seconds, latents_of_frames
from longtake.core.units import pixels
from longtake.data.manifest import PreparedShot

UPSCALING = 0.05  # by which a picture may be enlarged to fill a bucket, below what is visible
SAME_ASPECT = 0.05  # sizes whose logarithms of height / width differ by less count as one aspect ratio


@dataclass(frozen=True)
class Bucket:
    """Clips of so many frames of height x width pixels. A token stands for `temporal_compression` frames of `scale` x
    `scale` pixels. ValueError if a frame is not a whole number of tokens.
    """

    frames: int
    height: int
    width: int
    temporal_compression: int
    scale: int

    def __post_init__(self) -> None:
        if self.height % self.scale or self.width % self.scale or min(self.height, self.width) < self.scale:
            raise ValueError(
                f"frames of {self.width}x{self.height} are not whole tokens: use multiples of {self.scale} pixels"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        return (
            latents_of_frames(self.frames, self.temporal_compression),
            self.height // self.scale,
            self.width // self.scale,
        )

    @property
    def tokens(self) -> int:
        """Tokens of a clip."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """Frames and size as a text: `121 x 768x512`."""
        return f"{self.frames} x {pixels((self.height, self.width))}"


@dataclass(frozen=True)
class ShotClip:
    """A clip of a shot. stamps: timestamps of its frames, one of which may come twice. bucket: its duration and size."""

    kept: PreparedShot
    stamps: tuple[int, ...]
    bucket: Bucket

    @property
    def key(self) -> str:
        """A hash of what determines its pixels: the file's content, the frames and their size."""
        facts = [self.kept.sha256, self.stamps, self.bucket.height, self.bucket.width]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def cropped(self) -> float:
        """Share of the picture that is cropped away."""
        (height, width), bucket = self.kept.size, self.bucket
        scale = max(bucket.height / height, bucket.width / width)
        return 1 - bucket.height * bucket.width / (scale * scale * height * width)


def make_buckets(
    seconds: Sequence[float], sizes: Sequence[Sequence[int]], temporal_compression: int, scale: int, fps: float
) -> list[Bucket]:
    """Combine every duration with every size (height, width); durations are rounded up to whole latents."""
    latents = [latents_of_frames(frames_of_seconds(each, fps), temporal_compression) for each in seconds]
    return [
        Bucket(frames_of_latents(f, temporal_compression), int(h), int(w), temporal_compression, scale)
        for f in latents
        for h, w in sizes
    ]


def group_buckets(buckets: Sequence[Bucket], max_dropout: float) -> list[list[Bucket]]:
    """Group buckets that can share a batch: the longest clip of a group loses at most the share `max_dropout`."""
    groups: list[list[Bucket]] = []
    for bucket in sorted(buckets, key=lambda each: -each.tokens):
        if groups and bucket.tokens >= least_tokens(groups[-1][0].tokens, max_dropout):
            groups[-1].append(bucket)
        else:
            groups.append([bucket])
    return groups


def least_tokens(tokens: int, max_dropout: float) -> int:
    """Return the fewest tokens that a clip may keep."""
    return math.ceil(tokens * (1 - max_dropout) - 1e-9)


def draw_token_count(generator: torch.Generator, group: Sequence[Bucket], max_dropout: float) -> int:
    """Draw how many tokens every clip of a batch keeps.

    The draw is uniform, from the fewest that the longest clip may keep to all of the shortest clip.
    """
    low = least_tokens(max(bucket.tokens for bucket in group), max_dropout)
    high = min(bucket.tokens for bucket in group)
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw_tokens(generator: torch.Generator, tokens: int, kept: int) -> Tensor:
    """Draw which tokens of a clip stay (kept,), in order; every set is equally likely."""
    return torch.randperm(tokens, generator=generator)[:kept].sort().values


class UnfitShot(ValueError):
    """The reason why a shot gives no clip."""


def fitting(size: tuple[int, int], buckets: Sequence[Bucket]) -> list[Bucket]:
    """Return the buckets that suit pictures of (height, width): nearest in aspect ratio, then largest.

    UnfitShot if every bucket is larger than the picture.
    """
    height, width = size
    small = [each for each in buckets if max(each.height / height, each.width / width) <= 1 + UPSCALING]
    if not small:
        raise UnfitShot(f"too small: {pixels((height, width))}")
    distance = {each: abs(math.log(height * each.width / (width * each.height))) for each in small}
    near = [each for each in small if distance[each] < min(distance.values()) + SAME_ASPECT]
    area = max(each.height * each.width for each in near)
    return [each for each in near if each.height * each.width == area]
