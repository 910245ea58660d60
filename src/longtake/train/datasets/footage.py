"""Clips of a prepared folder as training data: their latents are encoded once and cached on disk, as far as there is room.

A clip is identified by its content, that is the file, the frames, their size and the VAE. So another run, or the same
folder prepared again, finds what was encoded before, and a deleted clip is encoded again to the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtake.core.geometry import first_frame
from longtake.data.shots.analysis import file_sha256
from longtake.media.video_reader import Fit, VideoError, VideoReader
from longtake.train.datasets.buckets import Bucket, ShotClip
from longtake.train.datasets.clip_dataset import BatchSpec, Encode
from longtake.train.datasets.control_signals import file_of, rows
from longtake.train.datasets.latent_cache import OVERHEAD, LatentCache
from longtake.train.interfaces import Captions

VERSION = 2  # of the code from pixels to latents; part of every key
GB = 10**9


@dataclass(frozen=True)
class ClipFormat:
    """The clips that a model can take.

    fps, size: of the videos that it generates. max_latent_frames: latent frames of its view. multiple: number of pixels of which
    height and width must be multiples. temporal_compression, scale, channels: of the VAE, in frames, pixels and channels
    per latent. vae: digest of the VAE.
    """

    fps: float
    size: tuple[int, int]
    max_latent_frames: int
    multiple: int
    temporal_compression: int
    scale: int
    channels: int
    vae: str


@dataclass(frozen=True)
class EncodedVariant:
    """Something else that is encoded and cached for each clip, such as its first frames.

    frames: clip number -> pixels (1, 3, T, H, W). name: clip number -> a name that is part of the cache key. encode:
    pixels -> (1, ...), if not by the VAE.
    """

    frames: Callable[[int], Tensor]
    name: Callable[[int], str]
    encode: Encode | None = None


@dataclass
class Footage:
    """Clips of a prepared folder, as a `ClipDataset`; a clip that is not in the cache is encoded when it is drawn.

    size: the first of the sizes. control_kind: see `prepared_folder.FootageConfig.control`. held_out: clips that are not trained on. verified: files whose content was compared.
    """

    folder: Path
    clips: Sequence[ShotClip]
    cache: LatentCache
    clip_format: ClipFormat
    encode: Encode
    fps: float
    size: tuple[int, int]
    control_kind: str = ""
    held_out: frozenset[int] = frozenset()
    verified: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.clips)

    # ------------------------------------------------------------ facts
    @cached_property
    def buckets(self) -> list[tuple[Bucket, list[int]]]:
        """The buckets with the numbers of the clips to train on."""
        return self._in_buckets(number for number in range(len(self)) if number not in self.held_out)

    @cached_property
    def held_out_buckets(self) -> list[tuple[Bucket, list[int]]]:
        """The buckets with the numbers of their held-out clips."""
        return self._in_buckets(sorted(self.held_out))

    def _in_buckets(self, numbers: Iterable[int]) -> list[tuple[Bucket, list[int]]]:
        found: dict[Bucket, list[int]] = {}
        for number in numbers:
            found.setdefault(self.clips[number].bucket, []).append(number)
        return list(found.items())

    def batch_spec(self, length: Callable[[torch.Generator], int], generator: torch.Generator) -> BatchSpec:
        """Draw a bucket in proportion to its clips. The cost of a clip of the first size is its length in latents."""
        return self._drawn(self.buckets, generator)

    def held_out_spec(self, generator: torch.Generator) -> BatchSpec:
        """Draw a bucket of the held-out clips, in proportion to them."""
        return self._drawn(self.held_out_buckets, generator)

    def _drawn(self, buckets: Sequence[tuple[Bucket, list[int]]], generator: torch.Generator) -> BatchSpec:
        every = sorted(number for _, numbers in buckets for number in numbers)
        number = every[int(torch.randint(len(every), (), generator=generator))]
        bucket, numbers = next(found for found in buckets if found[0] == self.clips[number].bucket)
        area = bucket.height * bucket.width / (self.size[0] * self.size[1])
        return BatchSpec(bucket.shape[0], numbers, numbers, math.ceil(bucket.shape[0] * area - 1e-9))

    @property
    def usual_size(self) -> tuple[int, int]:
        """The size (height, width) of most clips."""
        sizes = Counter((clip.bucket.height, clip.bucket.width) for clip in self.clips)
        return sizes.most_common(1)[0][0]

    def facts(self) -> dict[str, Any]:
        """Return facts that must be equal for a run to resume: hashes of clips and captions per video, and buckets."""
        videos: dict[str, Any] = {}
        for clip in self.clips:
            about = [clip.key, clip.bucket.frames, clip.kept.caption.sentence(), *clip.kept.later, *self._hashed(clip)]
            videos.setdefault(clip.kept.video, hashlib.sha256()).update(json.dumps(about).encode())
        shapes = {bucket.name: len(numbers) for bucket, numbers in self.buckets}
        names = {video: found.hexdigest()[:12] for video, found in sorted(videos.items())}
        facts = {"clips": len(self), "vae": self.clip_format.vae[:12], "buckets": shapes, "videos": names}
        return {**facts, "held_out": len(self.held_out)} if self.held_out else facts

    def _hashed(self, clip: ShotClip) -> list[str]:
        return [file_sha256(file_of(self.folder / clip.kept.video, self.control_kind))] if self.control_kind else []

    # ------------------------------------------------------------ clips
    @property
    def control_width(self) -> int:
        """Values of the control signal per frame, 0 if there is none."""
        return self.control_signal(0).shape[1] if self.control_kind else 0

    def control_signal(self, number: int) -> Tensor:
        """Return the control signal of the frames of a clip (T, D)."""
        return rows(self.folder, self.clips[number], self.control_kind, self.fps)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.clip_format.channels

    def length(self, number: int) -> int:
        """Return the number of latent frames of a clip."""
        return self.clips[number].bucket.shape[0]

    def window(self, number: int, start: int, frames: int) -> tuple[Tensor, Tensor]:
        """Return latents (C, F, h, w) of a window, and zeros (F, h, w) as sprite cover: real footage has no sprites."""
        latents = self.latents(number)[:, start : start + frames]
        return latents, torch.zeros(latents.shape[1:])

    def caption_change(self, number: int) -> int | None:
        """Return the first latent frame with another caption than the clip's first one, if there is one."""
        return next((latent for latent, _ in self.all_captions(number)[1:]), None)

    def caption(self, number: int, latent: int = 0, rng: random.Random | None = None) -> str:
        """Return the caption of a latent frame of a clip ("" if it has none)."""
        return next(words for first, words in reversed(self.all_captions(number)) if first <= latent)

    def captions(self, number: int, start: int, frames: int, rng: random.Random) -> Captions:
        """Return the captions of a window, each with the latent frame of the window from which on it holds."""
        every = self.all_captions(number)
        later = [(first - start, words) for first, words in every if start < first < start + frames]
        return [(0, self.caption(number, start)), *later]

    def all_captions(self, number: int) -> list[tuple[int, str]]:
        """Return all captions of a clip, each with the latent frame from which on it holds."""
        clip = self.clips[number]
        shot, found = clip.kept.shot, list[tuple[int, str]]()
        for latent in range(clip.bucket.shape[0]):
            stamp = clip.stamps[first_frame(latent, self.clip_format.temporal_compression)]
            seconds = float((stamp - shot.first) * Fraction(shot.base))
            until_now = [
                clip.kept.caption.sentence(),
                *(words for second, words in clip.kept.later if second <= seconds + 1e-6),
            ]
            if not found or until_now[-1] != found[-1][1]:
                found.append((latent, until_now[-1]))
        return found

    @torch.no_grad()
    def latents(self, number: int, variant: EncodedVariant | None = None) -> Tensor:
        """Return the latents (C, F, h, w) of a clip in float32, from the cache or encoded now.

        They pass through half precision either way, so that both give the same numbers.
        """
        key = self._key(number, variant)
        latents = self.cache.get(key)
        if latents is None:
            encode = (variant and variant.encode) or self.encode
            latents = encode(variant.frames(number) if variant else self.frames(number))[0].half()
            self.cache.put(key, latents)
        return latents.float()

    def example(self) -> int:
        """Return the number of a clip to show as an example: one with a caption, if there is one."""
        return next((number for number in range(len(self)) if self.caption(number)), 0)

    def first_frame(self, number: int) -> Tensor:
        """Return the first frame (3, H, W) of a clip, in [-1, 1]."""
        return self.frames(number, 1)[0, :, 0]

    def frames(self, number: int, most: int | None = None) -> Tensor:
        """Read the first frames (1, 3, T, H, W) of a clip, in [-1, 1]. VideoError if the file has changed."""
        clip = self.clips[number]
        path, stamps = self.folder / clip.kept.video, clip.stamps[:most]
        try:
            self._verify(path, clip)
            with VideoReader(path) as video:
                different = list(dict.fromkeys(stamps))
                images = dict(zip(different, video.at(different, _covering(clip.bucket))))
        except (VideoError, OSError) as error:
            raise VideoError(f"{path}: {error}") from error
        cropped = np.stack([_center_crop(images[stamp], clip.bucket) for stamp in stamps])
        return torch.from_numpy(cropped).permute(3, 0, 1, 2)[None].float() / 127.5 - 1

    def _verify(self, path: Path, clip: ShotClip) -> None:
        if clip.kept.video not in self.verified and file_sha256(path) != clip.kept.sha256:
            raise VideoError("it has changed: prepare the folder again")
        self.verified.add(clip.kept.video)

    # ------------------------------------------------------------ cache
    def fill(
        self, share: tuple[int, int], report: Callable[[str], None], variant: EncodedVariant | None = None
    ) -> None:
        """Encode missing clips, as far as there is room. share: (r, n) encodes every n-th clip from the r-th on."""
        wanted = self._that_fit(self.bytes if variant else 0)
        if len(wanted) < len(self):
            report(
                f"{self.cache.folder} has room for {len(wanted)} of {len(self)} clips; the others are encoded whenever they "
                f"are drawn, which is slow: set cache_gb to {2 * self.bytes / GB:.2g}"
            )
        missing = [number for number in wanted if not self.cache.has(self._key(number, variant))]
        todo = [number for number in missing if number % share[1] == share[0]]
        for done, number in enumerate(todo, 1):
            self.latents(number, variant)
            if done % 20 == 0 or done == len(todo):
                report(f"{done} of {len(todo)} clips encoded")

    @property
    def bytes(self) -> int:
        """Bytes of the latents of all clips."""
        return sum(self._bytes(clip) for clip in self.clips)

    def _bytes(self, clip: ShotClip) -> int:
        return 2 * self.clip_format.channels * clip.bucket.tokens + OVERHEAD

    def _that_fit(self, used: int) -> list[int]:
        """Return the first clips, as many as fit beside `used` bytes."""
        after = accumulate((self._bytes(clip) for clip in self.clips), initial=used)
        return [number for number, total in enumerate(islice(after, 1, None)) if total <= self.cache.limit]

    def _key(self, number: int, variant: EncodedVariant | None) -> str:
        more = variant.name(number) if variant else ""
        facts = f"{VERSION} {self.clips[number].key} {self.clip_format.vae} {more}"
        return hashlib.sha256(facts.encode()).hexdigest()[:40]


def _covering(bucket: Bucket) -> Fit:
    """Return the resizing that makes a picture just cover the size of a bucket."""

    def fit(height: int, width: int) -> tuple[int, int]:
        scale = max(bucket.height / height, bucket.width / width)
        return max(bucket.height, round(height * scale)), max(bucket.width, round(width * scale))

    return fit


def _center_crop(image: np.ndarray, bucket: Bucket) -> np.ndarray:
    top, left = (image.shape[0] - bucket.height) // 2, (image.shape[1] - bucket.width) // 2
    return image[top : top + bucket.height, left : left + bucket.width]
