"""Clips of buckets: of a prepared folder, or of the pocket world.

The VAE of LTX is causal, so a short clip is the beginning of a long one: pocket clips are encoded once per size, at the
longest duration, and kept in a folder per size (shards as in `latent_shards`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.core.units import pixels
from longtake.pocket import Clip, caption, render
from longtake.pocket.clips import Source
from longtake.train.datasets.buckets import Bucket
from longtake.train.datasets.clip_dataset import Encode
from longtake.train.datasets.footage import Footage
from longtake.train.datasets.latent_shards import (
    SHARDS,
    VAEFingerprint,
    check_vae,
    claim,
    fill_shards,
    filled,
    numbers_of,
    read_shards,
    stacked,
)
from longtake.train.datasets.pocket import pool_sprite, source_of


@dataclass(frozen=True)
class FootageBuckets:
    """The clips of a prepared folder as `BucketedClips`; a bucket is drawn in proportion to its clips."""

    footage: Footage

    def weight(self, bucket: Bucket) -> int:
        """Return the number of clips of a bucket."""
        return len(self._numbers(bucket))

    def draw(self, bucket: Bucket, rng: random.Random) -> int:
        """Draw the number of a clip of a bucket."""
        return rng.choice(self._numbers(bucket))

    def clip(self, bucket: Bucket, number: int) -> tuple[Tensor, Tensor]:
        """Return tokens (N, C) of a clip, and zeros (N,) as sprite cover: real footage has no sprites."""
        tokens = self.footage.latents(number).flatten(1).T
        return tokens, torch.zeros(len(tokens))

    def caption(self, bucket: Bucket, number: int, rng: random.Random) -> str:
        """Return the caption of the first frame of a clip."""
        return self.footage.caption(number)

    def facts(self) -> dict[str, Any]:
        """Return the facts of the prepared folder."""
        return self.footage.facts()

    def _numbers(self, bucket: Bucket) -> list[int]:
        return next(numbers for found, numbers in self.footage.buckets if found == bucket)


class PocketBuckets:
    """Pocket clips of every size in memory, in half precision; clip n of a bucket is the beginning of clip n of its size.

    fingerprint: the VAE that must have made the latents, as far as the folder names it.
    """

    def __init__(self, root: Path, buckets: Sequence[Bucket], fingerprint: VAEFingerprint | None = None):
        self.latents, self.sprite, self.numbers, self.sources = {}, {}, {}, {}
        sizes = sorted({(bucket.height, bucket.width) for bucket in buckets})
        self.longest = _encoded_length(root, sizes, max(bucket.frames for bucket in buckets))
        for size in sizes:
            folder = root / folder_name(self.longest, size)
            if fingerprint is not None:
                check_vae(folder / "cache.json", fingerprint)
            shards = read_shards(folder)
            self.latents[size] = torch.cat([part["latents"] for part in shards.values()])
            self.sprite[size] = torch.cat([part["sprite"] for part in shards.values()])
            self.numbers[size] = numbers_of({first: part["latents"] for first, part in shards.items()})
            self.sources[size] = source_of(folder)
        self.count = min(len(latents) for latents in self.latents.values())

    def __len__(self) -> int:
        return self.count * len(self.latents)

    def weight(self, bucket: Bucket) -> int:
        """Return 1: every bucket is equally likely."""
        return 1

    def draw(self, bucket: Bucket, rng: random.Random) -> int:
        """Draw the number of a clip."""
        return rng.randrange(self.count)

    def facts(self) -> dict[str, Any]:
        """Return the facts of the first size's source and the number of clips.

        One source stands for all sizes, whose clips have consecutive numbers, so that evaluation can tell which facts were
        seen in training.
        """
        return {**asdict(next(iter(self.sources.values()))), "clips": len(self)}

    def clip(self, bucket: Bucket, number: int) -> tuple[Tensor, Tensor]:
        """Return tokens (N, C) and sprite cover (N,) of a clip, frame by frame, row by row."""
        size, frames = (bucket.height, bucket.width), bucket.shape[0]
        latents, sprite = self.latents[size][number, :, :frames], self.sprite[size][number, :frames]
        return latents.float().flatten(1).T, sprite.float().flatten()

    def caption(self, bucket: Bucket, number: int, rng: random.Random) -> str:
        """Return a caption of a clip."""
        return caption(self.pocket_clip(bucket, number).scenes[0].facts, rng)

    def pocket_clip(self, bucket: Bucket, number: int) -> Clip:
        """Return the pocket clip behind a number, from the source of the folder of its size, whichever run filled it."""
        size = (bucket.height, bucket.width)
        return self.sources[size].clip(self.numbers[size][number])


def _encoded_length(root: Path, sizes: Sequence[tuple[int, int]], frames: int) -> int:
    """Return the shortest length in frames that suffices among the encoded clips of all sizes. FileNotFoundError if none."""
    found = [{int(p.parent.name.split("x")[0]) for p in root.glob(f"{folder_name('*', s)}/{SHARDS}")} for s in sizes]
    fit = [length for length in set.intersection(*found) if length >= frames]
    if not fit:
        wanted = " and ".join(map(pixels, sizes))
        raise FileNotFoundError(f"there are no clips of {frames} frames of {wanted} in {root}: encode clips first")
    return min(fit)


def folder_name(frames: int | str, size: tuple[int, int]) -> str:
    """Return the name of the folder of the clips of a size."""
    return f"{frames}x{size[0]}x{size[1]}"


@torch.no_grad()
def fill_clips(
    root: Path, buckets: Sequence[Bucket], count: int, seed: int, encode: Encode, share: tuple[int, int] = (0, 1),
    report: Callable[[str], None] = print, fingerprint: VAEFingerprint | None = None,
) -> None:  # fmt: skip
    """Encode `count` clips of every size that are not yet in the folder.

    InputError if the folder holds other clips, or latents of another VAE.
    """
    longest, compression = max(bucket.frames for bucket in buckets), buckets[0].temporal_compression
    for index, size in enumerate(sorted({(bucket.height, bucket.width) for bucket in buckets})):
        folder, source = root / folder_name(longest, size), Source(longest, 0.0, seed + index * count)
        claim(folder / "cache.json", {**asdict(source), "size": size}, fingerprint)

        def encoded(numbers: range, source: Source = source, size: tuple[int, int] = size) -> dict[str, Tensor]:
            return stacked([_encoded(source, number, size, compression, encode) for number in numbers])

        fill_shards(folder, count, encoded, share, report, f"clips of {pixels(size)}")


def filled_clips(root: Path, buckets: Sequence[Bucket], count: int) -> bool:
    """Whether the folder holds `count` clips of every size."""
    longest = max(bucket.frames for bucket in buckets)
    return all(filled(root / folder_name(longest, (bucket.height, bucket.width)), count) for bucket in buckets)


def _encoded(
    source: Source, number: int, size: tuple[int, int], temporal_compression: int, encode: Encode
) -> dict[str, Tensor]:
    picture = render(source.clip(number), 0, source.frames, size)
    latents = encode((picture.frames * 2 - 1).transpose(0, 1)[None])[0]
    return {
        "latents": latents,
        "sprite": pool_sprite(picture.sprite, (latents.shape[-2], latents.shape[-1]), temporal_compression),
    }
