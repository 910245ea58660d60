"""Clips of a prepared folder as training data: their latents are encoded once and kept on disk, as many as there is room for.

A clip is known by its content, that is the file, the frames, their size and the codec. So another run, or the same folder
prepared anew, finds what was encoded before, and a clip that had to go is encoded again, with the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtake.data.analysis import content
from longtake.data.manifest import about, read
from longtake.data.video import Fit, Video, VideoError
from longtake.geometry import first_frame
from longtake.train.buckets import Clip, Sorted, sort
from longtake.train.config import ConfigError
from longtake.train.lot import Lot
from longtake.train.pairs import Pair, pairs
from longtake.train.sample import Told
from longtake.train.store import OVERHEAD, Store
from longtake.train.tracks import check_kind, driven, file_of, rows

VERSION = 1  # of how pixels become latents; part of every key
GB = 10**9
Encode = Callable[[Tensor], Tensor]  # frames (B 3 T H W) in [-1, 1] -> normalised latents (B C F h w)


@dataclass(frozen=True)
class FootageConfig:
    """How shots become clips. fps: of the clips (0: the model's). seconds: their lengths, each rounded up to whole
    latents (none: as much as the network sees at once). sizes: (height, width) in pixels (none: the model's). track:
    what drives them, the suffix of a file beside each video or "sound", its own (see `tracks`).

    cache: folder of their latents (none: `latents` in the prepared folder), cache_gb: what it may hold.
    """

    fps: float = 0.0
    seconds: Sequence[float] = ()
    sizes: Sequence[Sequence[int]] = ()
    track: str = ""
    cache: str = ""
    cache_gb: float = 50.0

    def __post_init__(self) -> None:
        if self.fps < 0 or self.cache_gb < 0 or any(each <= 0 for each in self.seconds):
            raise ValueError("fps and cache_gb are not negative, and seconds are lengths of clips, such as [4.0, 8.0]")
        if any(len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size) for size in self.sizes):
            raise ValueError("sizes are pairs of height and width in pixels, such as [[480, 832], [832, 480]]")
        check_kind(self.track)


@dataclass(frozen=True)
class Sees:
    """What a model takes. fps, size: what it makes. view: latents at once. step: pixels of which sides are multiples.

    stride, scale, channels: of the codec, in frames, in pixels and of a latent; codec: its hash.
    """

    fps: float
    size: tuple[int, int]
    view: int
    step: int
    stride: int
    scale: int
    channels: int
    codec: str


@dataclass(frozen=True)
class Version:
    """What is encoded of a clip, if not the clip. frames: number -> pixels (1 3 T H W); name: number -> what tells it
    apart from other versions. encode: pixels -> (1 ...), if not the codec."""

    frames: Callable[[int], Tensor]
    name: Callable[[int], str]
    encode: Encode | None = None


@dataclass
class Footage:
    """Clips by number. latents of a clip are encoded when they are asked for and not in the store."""

    folder: Path
    clips: Sequence[Clip]
    store: Store
    sees: Sees
    encode: Encode
    fps: float
    size: tuple[int, int]  # the first of the sizes
    drive: str = ""  # what drives the clips, see `FootageConfig.track`
    checked: set[str] = field(default_factory=set)  # files whose content was seen to be what it was

    def __len__(self) -> int:
        return len(self.clips)

    # ------------------------------------------------------------ what it is
    @cached_property
    def buckets(self) -> list[tuple[Pair, list[int]]]:
        """The buckets with the numbers of their clips."""
        found: dict[Pair, list[int]] = {}
        for number, clip in enumerate(self.clips):
            found.setdefault(clip.pair, []).append(number)
        return list(found.items())

    def lot(self, length: Callable[[torch.Generator], int], rng: torch.Generator) -> Lot:
        """See `Clips`: a bucket, as likely as it has clips. A clip of the first size of all costs as much as it is long."""
        number = int(torch.randint(len(self.clips), (), generator=rng))
        pair, numbers = next(found for found in self.buckets if found[0] == self.clips[number].pair)
        area = pair.height * pair.width / (self.size[0] * self.size[1])
        return Lot(pair.shape[0], numbers, numbers, math.ceil(pair.shape[0] * area - 1e-9))

    @property
    def usual(self) -> tuple[int, int]:
        """The size (height, width) of most clips."""
        return Counter((clip.pair.height, clip.pair.width) for clip in self.clips).most_common(1)[0][0]

    def facts(self) -> dict[str, Any]:
        """What a run must find unchanged to go on: the clips and captions of every video, hashed, and their shapes."""
        videos: dict[str, Any] = {}
        for clip in self.clips:
            said = [clip.key, clip.pair.frames, clip.kept.caption.sentence(), *clip.kept.later, *self._hashed(clip)]
            videos.setdefault(clip.kept.video, hashlib.sha256()).update(json.dumps(said).encode())
        shapes = {pair.name: len(numbers) for pair, numbers in self.buckets}
        names = {video: found.hexdigest()[:12] for video, found in sorted(videos.items())}
        return {"clips": len(self), "codec": self.sees.codec[:12], "buckets": shapes, "videos": names}

    def _hashed(self, clip: Clip) -> list[str]:
        return [content(file_of(self.folder / clip.kept.video, self.drive))] if self.drive else []

    # ------------------------------------------------------------ what it gives
    @property
    def driven(self) -> int:
        """See `Clips`."""
        return self.driving(0).shape[1] if self.drive else 0

    def driving(self, number: int) -> Tensor:
        """What drives the frames of a clip (T, D)."""
        return rows(self.folder, self.clips[number], self.drive, self.fps)

    @property
    def channels(self) -> int:
        """See `Clips`."""
        return self.sees.channels

    def longest(self, number: int) -> int:
        """See `Clips`."""
        return self.clips[number].pair.shape[0]

    def window(self, number: int, start: int, frames: int) -> tuple[Tensor, Tensor]:
        """See `Clips`; nothing is known of sprites here."""
        latents = self.latents(number)[:, start : start + frames]
        return latents, torch.zeros(latents.shape[1:])

    def change(self, number: int) -> int | None:
        """See `Clips`."""
        return next((latent for latent, _ in self.captions(number)[1:]), None)

    def caption(self, number: int, latent: int = 0, chance: random.Random | None = None) -> str:
        """See `Clips` ("" if nobody said anything)."""
        return next(words for first, words in reversed(self.captions(number)) if first <= latent)

    def told(self, number: int, start: int, frames: int, chance: random.Random) -> Told:
        """See `Clips`."""
        after = [(first - start, words) for first, words in self.captions(number) if start < first < start + frames]
        return [(0, self.caption(number, start)), *after]

    def captions(self, number: int) -> list[tuple[int, str]]:
        """All captions of a clip, each with the latent from whose first frame on it holds."""
        clip = self.clips[number]
        shot, found = clip.kept.shot, list[tuple[int, str]]()
        for latent in range(clip.pair.shape[0]):
            seconds = float((clip.stamps[first_frame(latent, self.sees.stride)] - shot.first) * Fraction(shot.base))
            said = [
                clip.kept.caption.sentence(),
                *(words for second, words in clip.kept.later if second <= seconds + 1e-6),
            ]
            if not found or said[-1] != found[-1][1]:
                found.append((latent, said[-1]))
        return found

    @torch.no_grad()
    def latents(self, number: int, version: Version | None = None) -> Tensor:
        """Latents (C F h w) of a clip, float32: from the store, else encoded. Half precision lies between, either way, so
        that both are the same numbers."""
        key = self._key(number, version)
        latents = self.store.get(key)
        if latents is None:
            encode = (version and version.encode) or self.encode
            latents = encode(version.frames(number) if version else self.frames(number))[0].half()
            self.store.put(key, latents)
        return latents.float()

    def frames(self, number: int, most: int | None = None) -> Tensor:
        """The first frames (1 3 T H W) of a clip, in [-1, 1]. VideoError if the file is not what it was."""
        clip = self.clips[number]
        path, stamps = self.folder / clip.kept.video, clip.stamps[:most]
        try:
            self._check(path, clip)
            with Video(path) as video:
                seen = dict(zip(dict.fromkeys(stamps), video.at(list(dict.fromkeys(stamps)), _covering(clip.pair))))
        except (VideoError, OSError) as error:
            raise VideoError(f"{path}: {error}") from error
        cut = np.stack([_middle(seen[stamp], clip.pair) for stamp in stamps])
        return torch.from_numpy(cut).permute(3, 0, 1, 2)[None].float() / 127.5 - 1

    def _check(self, path: Path, clip: Clip) -> None:
        if clip.kept.video not in self.checked and content(path) != clip.kept.sha256:
            raise VideoError("it has changed: prepare the folder again")
        self.checked.add(clip.kept.video)

    # ------------------------------------------------------------ the store
    def fill(self, share: tuple[int, int], report: Callable[[str], None], version: Version | None = None) -> None:
        """Encode what is not there and finds room; share: (r, n) does every n-th clip, from the r-th on."""
        wanted = self._that_fit(self.bytes if version else 0)
        if len(wanted) < len(self):
            report(
                f"{self.store.folder} has room for {len(wanted)} of {len(self)} clips; the others are encoded whenever they "
                f"are drawn, which is slow: set cache_gb to {2 * self.bytes / GB:.2g}"
            )
        missing = [number for number in wanted if not self.store.has(self._key(number, version))]
        todo = [number for number in missing if number % share[1] == share[0]]
        for done, number in enumerate(todo, 1):
            self.latents(number, version)
            if done % 20 == 0 or done == len(todo):
                report(f"{done} of {len(todo)} clips encoded")

    @property
    def bytes(self) -> int:
        """That the latents of all clips take."""
        return sum(self._bytes(clip) for clip in self.clips)

    def _bytes(self, clip: Clip) -> int:
        return 2 * self.sees.channels * clip.pair.tokens + OVERHEAD

    def _that_fit(self, used: int) -> list[int]:
        """The first clips, as many as there is room for beside what is used."""
        after = accumulate((self._bytes(clip) for clip in self.clips), initial=used)
        return [number for number, total in enumerate(islice(after, 1, None)) if total <= self.store.limit]

    def _key(self, number: int, version: Version | None) -> str:
        more = version.name(number) if version else ""
        facts = f"{VERSION} {self.clips[number].key} {self.sees.codec} {more}"
        return hashlib.sha256(facts.encode()).hexdigest()[:40]


def open_footage(
    prepared: Path, config: FootageConfig, sees: Sees, encode: Encode, report: Callable[[str], None]
) -> Footage:
    """The clips of a prepared folder. ConfigError if they do not suit the model or there are none; ManifestError."""
    fps, sizes = config.fps or sees.fps, config.sizes or [sees.size]
    _check_sizes(sizes, sees.step)
    seconds = config.seconds or [(1 + sees.stride * (sees.view - 1)) / fps]
    found = pairs(seconds, sizes, sees.stride, sees.scale, fps)
    _check_lengths(found, sees.view)
    told = sort(read(prepared), found, fps)
    for line in told.lines():
        report(line)
    _refuse_nothing(prepared, told)
    folder, clips = Path(about(prepared)["folder"]), told.clips
    if config.track:
        clips = driven(folder, clips, config.track, fps, report)
    store = Store(Path(config.cache) if config.cache else prepared / "latents", round(config.cache_gb * GB))
    size = (found[0].height, found[0].width)
    return Footage(folder, clips, store, sees, encode, fps, size, config.track)


def made_by(model: Path | None, config: FootageConfig) -> tuple[float, tuple[int, int]]:
    """Frame rate and size of what a model folder makes; ConfigError if neither it nor the config says them."""
    file = model / "longtake.json" if model else None
    own = json.loads(file.read_text()) if file and file.exists() else {}
    fps, size = own.get("fps", config.fps), own.get("size") or (config.sizes[0] if config.sizes else None)
    if not fps or size is None:
        raise ConfigError("[footage] the model does not say what it makes: give `fps` and `sizes`")
    return float(fps), (size[0], size[1])


def _check_sizes(sizes: Sequence[Sequence[int]], step: int) -> None:
    for size in sizes:
        near = [max(step, round(side / step) * step) for side in size]
        if near != list(size):
            raise ConfigError(f"[footage] size {list(size)}: sides are multiples of {step} pixels here, such as {near}")


def _check_lengths(found: Sequence[Pair], view: int) -> None:
    for pair in found:
        if pair.shape[0] > view:
            raise ConfigError(
                f"[footage] clips of {pair.frames} frames are {pair.shape[0]} latents, but the network sees {view} at "
                "once: shorten seconds"
            )


def _refuse_nothing(prepared: Path, told: Sorted) -> None:
    if not told.clips:
        why = "; ".join(f"{count} {reason}" for reason, count in told.left.most_common(4)) or "it holds no shots"
        raise ConfigError(f"{prepared} gives no clip of these lengths and sizes: {why}")


def _covering(pair: Pair) -> Fit:
    """The picture scaled so that it just covers the bucket's."""

    def fit(height: int, width: int) -> tuple[int, int]:
        scale = max(pair.height / height, pair.width / width)
        return max(pair.height, round(height * scale)), max(pair.width, round(width * scale))

    return fit


def _middle(picture: np.ndarray, pair: Pair) -> np.ndarray:
    top, left = (picture.shape[0] - pair.height) // 2, (picture.shape[1] - pair.width) // 2
    return picture[top : top + pair.height, left : left + pair.width]
