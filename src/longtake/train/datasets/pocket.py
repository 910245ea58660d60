"""Pocket clips as training data: rendered from their numbers, encoded once, kept as latents on disk.

A cache folder holds cache.json and shards of clips (see `latent_shards`): latents (n, C, F, h, w) float16 and sprite
(n, F, h, w) float16, the share of each latent pixel that the sprite covers. Facts are not stored: clip n of a cache is
always clip n of its `Source`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from longtake.pocket import Clip, Facts, brief, caption, render
from longtake.pocket.clips import Source
from longtake.pocket.control import DRIVES
from longtake.train.datasets.clip_dataset import BatchSpec, Encode
from longtake.train.datasets.latent_shards import (
    VAEFingerprint,
    claim,
    fill_shards,
    numbers_of,
    read_shards,
    stacked,
)
from longtake.train.interfaces import Captions


def pool_sprite(sprite: Tensor, size: tuple[int, int], temporal_compression: int = 4) -> Tensor:
    """Pool the sprite cover of frames (T, S, S) to latents (F, h, w).

    Latent 0 stands for frame 0, each later one for `temporal_compression` frames.
    """
    small = adaptive_avg_pool2d(sprite[:, None], size)[:, 0]
    return torch.cat((small[:1], small[1:].unflatten(0, (-1, temporal_compression)).mean(1)))


def fill_cache(
    folder: Path, source: Source, count: int, encode: Encode, share: tuple[int, int] = (0, 1),
    report: Callable[[str], None] = print, fingerprint: VAEFingerprint | None = None,
) -> None:  # fmt: skip
    """Encode clips 0..count-1 that are not yet in the folder; it may be stopped and started again.

    share: see `fill_shards`. InputError if the folder holds other clips, or latents of another VAE.
    """
    claim(folder / "cache.json", source.facts(), fingerprint)

    def encoded(number: int) -> dict[str, Tensor]:
        latents, sprite = _encoded(source.clip(number), source.frames, encode)
        return {"latents": latents, "sprite": sprite}

    fill_shards(folder, count, lambda numbers: stacked([encoded(number) for number in numbers]), share, report)


def source_of(folder: Path) -> Source:
    """Read the source whose first clips a cache folder holds."""
    about = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
    return Source(**{field.name: about[field.name] for field in fields(Source) if field.name in about})


@torch.no_grad()
def _encoded(clip: Clip, frames: int, encode: Encode) -> tuple[Tensor, Tensor]:
    """Render and encode a clip to latents (C, F, h, w) and sprite cover (F, h, w)."""
    picture = render(clip, 0, frames)
    latents = encode((picture.frames * 2 - 1).transpose(0, 1)[None])[0]
    return latents, pool_sprite(picture.sprite, (latents.shape[-2], latents.shape[-1]))


class PocketLatents:
    """A cache in memory, as a `ClipDataset`. It takes 2 bytes per number (about 63 kB per 31 latent frames).

    short_captions: share of windows whose captions name the motion alone.
    """

    def __init__(self, folder: Path, short_captions: float = 0.0):
        shards = read_shards(folder)
        if not shards:
            raise FileNotFoundError(
                f"there are no latents in {folder}: remove `data`, and the run encodes `clips` clips itself"
            )
        self.source = source_of(folder)
        if short_captions and self.source.drive:
            raise ValueError(
                "a control signal moves the sprites of these clips, so captions that name the motion alone would be empty: "
                "set short_caption_share = 0.0"
            )
        self.short_captions = short_captions
        self.latents = torch.cat([part["latents"] for part in shards.values()])
        self.sprite = torch.cat([part["sprite"] for part in shards.values()])
        numbers = numbers_of({first: part["latents"] for first, part in shards.items()})
        self.rows = {number: row for row, number in enumerate(numbers)}
        self.clips = {number: self.source.clip(number) for number in numbers}

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.latents.shape[1]

    @property
    def control_kind(self) -> str:
        """The kind of control signal of the clips, "" if they have none."""
        return self.source.drive

    @property
    def control_width(self) -> int:
        """Values of the control signal per frame, 0 if there is none."""
        return DRIVES[self.control_kind] if self.control_kind else 0

    def control_signal(self, number: int) -> Tensor:
        """Return the control signal of the frames of a clip (T, D)."""
        return torch.from_numpy(self.clips[number].control_signal(0, self.source.frames)).float()

    @cached_property
    def single_caption(self) -> list[int]:
        """Numbers of the clips with one caption throughout; a passage of a story is captioned by its second prompt."""
        return [n for n, clip in self.clips.items() if len(clip.scenes) == 1 or self.source.stories]

    def batch_spec(self, length: Callable[[torch.Generator], int], generator: torch.Generator) -> BatchSpec:
        """Return all clips, at a length that is drawn. ValueError if the clips are shorter."""
        frames, longest = length(generator), self.length(0)
        if frames > longest:
            raise ValueError(f"the clips have {longest} latent frames, but length_schedule asks for {frames}")
        return BatchSpec(frames, list(self.clips), self.single_caption, frames)

    def length(self, number: int) -> int:
        """Return the number of latent frames of a clip; all clips are equally long."""
        return self.latents.shape[2]

    def caption_change(self, number: int) -> int | None:
        """Return the first latent frame of a clip's second scene, if there is one."""
        scenes = self.clips[number].scenes
        return (scenes[1].first + 3) // 4 if len(scenes) > 1 else None

    def caption(self, number: int, latent: int, rng: random.Random) -> str:
        """Return a caption of a latent frame of a clip."""
        return self._caption(self.clips[number].facts_at(first_frame(latent)), rng)

    def captions(self, number: int, start: int, frames: int, rng: random.Random) -> Captions:
        """Return captions of a window; each states the facts of the frames from its latent frame on."""
        least = 1 if self.source.stories else 0  # the first frame of a passage shows the prompt before
        facts = [self.clips[number].facts_at(first_frame(max(start + f, least))) for f in range(frames)]
        changes = [0, *(f + 1 for f, (old, new) in enumerate(pairwise(facts)) if old != new)]
        write = brief if self.short_captions and rng.random() < self.short_captions else self._caption
        return [(f, write(facts[f], rng)) for f in changes]

    def _caption(self, facts: Facts, rng: random.Random) -> str:
        return caption(facts, rng, bool(self.control_kind))  # a caption leaves out what a control signal states

    def example(self) -> int:
        """Return the number of a clip to show as an example."""
        return next(iter(self.single_caption or self.clips))

    def first_frame(self, number: int) -> Tensor:
        """Return the first frame (3, H, W) of a clip, in [-1, 1]."""
        return render(self.clips[number], 0, 1).frames[0] * 2 - 1

    def facts(self) -> dict[str, Any]:
        """Return the facts of the source and the number of clips."""
        return {**self.source.facts(), "clips": len(self)}

    def window(self, number: int, start: int, frames: int) -> tuple[Tensor, Tensor]:
        """Return latents (C, F, h, w) and sprite cover (F, h, w) of `frames` latent frames from `start` on, in float32."""
        row, stop = self.rows[number], start + frames
        return self.latents[row, :, start:stop].float(), self.sprite[row, start:stop].float()


def first_frame(latent: int) -> int:
    """Return the first output frame of a latent frame of a causal VAE with temporal compression 4."""
    return max(0, 4 * latent - 3)
