"""Image conditioning of image-to-video networks: the encoded first frames of a clip, cached on disk.

The condition is the latents of the first k frames followed by grey frames, exactly as an image-to-video model
makes them (`models.first_frames`). Grey frames long after the given ones always have the same latents (the VAE looks back a few dozen frames), so
only the first TAIL latents after the given ones are encoded and the last one is repeated; a test measures the error.

A folder image_cond/ holds image_cond.json and shards (see `latent_shards`) of the clips whose latents lie beside it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from longtake.core.errors import ConfigError
from longtake.core.geometry import frames_of_latents, latents_of_frames
from longtake.models.first_frames import followed_by_grey, known, masked
from longtake.pocket import Clip, render
from longtake.pocket.clips import Source
from longtake.train.datasets.clip_dataset import Encode
from longtake.train.datasets.footage import EncodedVariant, Footage
from longtake.train.datasets.latent_shards import VAEFingerprint, claim, fill_shards, read_shards

TAIL = 13  # latents after the given ones that are encoded; later ones differ by less than 1e-3


@dataclass(frozen=True)
class PrefixLengths:
    """How many first frames of a clip condition the network.

    counts, weights: numbers of frames, each with its probability. temporal_compression: of the VAE. mask: marks "all" of
    the given frames, or the "first" alone, as Stable Video Infinity does. pad: the frames behind them are "grey", or one
    "image" repeated, a frame of the clip that is always the same.
    """

    counts: Sequence[int] = (1, 5, 17)
    weights: Sequence[float] = (0.7, 0.15, 0.15)
    temporal_compression: int = 4
    mask: Literal["all", "first"] = "all"
    pad: Literal["grey", "image"] = "grey"

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.weights) or not self.counts:
            raise ValueError(f"there are {len(self.counts)} counts, but {len(self.weights)} weights: give as many")
        if wrong := [n for n in self.counts if n < 1 or (n - 1) % self.temporal_compression]:
            raise ValueError(
                f"{wrong[0]} given frames do not fill whole latents: use 1, {1 + self.temporal_compression}, ..."
            )

    def count(self, number: int) -> int:
        """Return the given frames of clip `number`, always the same."""
        return random.Random(f"given {number}").choices(list(self.counts), list(self.weights))[0]

    def pad_frame(self, number: int, frames: int) -> int | None:
        """Return which of the frames of clip `number` is repeated behind the given ones, None if the padding is grey."""
        return random.Random(f"behind {number}").randrange(frames) if self.pad == "image" else None

    def marked(self, count: int, latents: int) -> Tensor:
        """Return the mask (temporal_compression, F) of `count` given frames."""
        return known(1 if self.mask == "first" else count, latents, self.temporal_compression)

    def facts(self) -> dict[str, Any]:
        """Return what decides the latents."""
        facts = asdict(self)
        return {
            name: facts[name]
            for name in ("counts", "weights", "temporal_compression", *(["pad"] if self.pad != "grey" else []))
        }


def encode_prefix(
    clip: Clip, frames: int, encode: Encode, temporal_compression: int = 4, pad_frame: int | None = None
) -> Tensor:
    """Encode the first `frames` frames of a pocket clip, k latents, and its padding to latents (C, k + TAIL, h, w)."""

    def rendered(first: int, stop: int) -> Tensor:
        return render(clip, first, stop).frames.transpose(0, 1)[None] * 2 - 1

    image = None if pad_frame is None else rendered(pad_frame, pad_frame + 1)
    return encode(with_tail(rendered(0, frames), temporal_compression, image))[0]


def with_tail(first: Tensor, temporal_compression: int, image: Tensor | None = None) -> Tensor:
    """Append TAIL latents' worth of grey frames, or of an image (1, 3, 1, H, W), to frames (1, 3, T, H, W)."""
    count = frames_of_latents(latents_of_frames(first.shape[2], temporal_compression) + TAIL, temporal_compression)
    if image is None:
        return followed_by_grey(first, count)
    return torch.cat([first, image.expand(-1, -1, count - first.shape[2], -1, -1)], 2)


def extended(latents: Tensor, count: int) -> Tensor:
    """Return the first `count` latents of (C, F, h, w); after the end the last one repeats."""
    return latents[:, torch.arange(count).clamp_max(latents.shape[1] - 1)]


@torch.no_grad()
def fill_prefixes(
    folder: Path, source: Source, count: int, prefix_lengths: PrefixLengths, encode: Encode,
    share: tuple[int, int] = (0, 1), report: Callable[[str], None] = print, fingerprint: VAEFingerprint | None = None,
) -> None:  # fmt: skip
    """Encode the image conditions of clips 0..count-1 that are not yet in the folder; it may be stopped and started again.

    InputError if the folder holds the conditions of other clips, or of another VAE.
    """
    about = {**source.facts(), **prefix_lengths.facts(), "tail": TAIL}
    claim(folder / "image_cond.json", about, fingerprint, "image conditions of other clips")
    compression = prefix_lengths.temporal_compression

    def encoded(numbers: range) -> dict[str, Tensor]:
        """Encode the prefixes of some clips, padded to the longest of them."""
        found = [
            encode_prefix(
                source.clip(n), prefix_lengths.count(n), encode, compression, prefix_lengths.pad_frame(n, source.frames)
            )
            for n in numbers
        ]
        longest = max(latents.shape[1] for latents in found)
        return {"image_cond": torch.stack([extended(latents, longest) for latents in found]).half()}

    fill_shards(folder, count, encoded, share, report, "image conditions")


def load_prefixes(folder: Path) -> Callable[[int], Tensor]:
    """Load the image conditions of all clips into memory."""
    shards = read_shards(folder).items()
    latents = {first + offset: each for first, shard in shards for offset, each in enumerate(shard["image_cond"])}
    return latents.__getitem__


def footage_prefixes(
    footage: Footage, prefix_lengths: PrefixLengths, share: tuple[int, int], report: Callable[[str], None]
) -> Callable[[int], Tensor]:
    """Encode the image conditions of a prepared folder, as far as its cache has room, and return how to read them."""
    if short := [bucket for bucket, _ in footage.buckets if bucket.frames < max(prefix_lengths.counts)]:
        raise ConfigError(
            f"prefix.counts has {max(prefix_lengths.counts)} frames, but there are clips of {short[0].frames}: "
            "shorten counts, or lengthen seconds"
        )

    def frames(number: int) -> Tensor:
        behind = prefix_lengths.pad_frame(number, footage.clips[number].bucket.frames)
        image = None if behind is None else footage.frames(number, behind + 1)[:, :, -1:]
        given = footage.frames(number, prefix_lengths.count(number))
        return with_tail(given, prefix_lengths.temporal_compression, image)

    pad = "" if prefix_lengths.pad == "grey" else f" {prefix_lengths.pad}"
    name = lambda number: f"prefix {prefix_lengths.count(number)} {TAIL}{pad}"
    variant = EncodedVariant(frames=frames, name=name)
    footage.fill(share, report, variant)
    return lambda number: footage.latents(number, variant)


@dataclass(frozen=True)
class ImageConditioning:
    """The image conditions of clips. latents: clip number -> latents (C, F, h, w) of its given frames and padding."""

    prefix_lengths: PrefixLengths
    latents: Callable[[int], Tensor]

    def __getitem__(self, number: int) -> tuple[int, Tensor]:
        """Return the number of given frames of clip `number`, and the latents."""
        return self.prefix_lengths.count(number), self.latents(number).float()

    def concat(self, numbers: Sequence[int], frames: int) -> Tensor:
        """Return mask and latents (B, temporal_compression + C, F, h, w) to concatenate to the noisy latents.

        numbers: clips whose windows of `frames` latent frames begin with the clip.
        """
        given, latents = zip(*(self[n] for n in numbers))
        mask = torch.stack([self.prefix_lengths.marked(count, frames) for count in given])
        return masked(mask, torch.stack([extended(each, frames) for each in latents]))
