"""Batches of clips that differ in duration and size: equally many tokens of each, some with clean prefixes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from longtake.train.datasets.buckets import Bucket, draw_token_count, draw_tokens, group_buckets


@dataclass(frozen=True)
class PrefixConditioning:
    """How often the network is conditioned on clean frames, which have no loss: the first frame, or several.

    first_frame_share: share of clips whose first frame is given. several_share: share with several latent frames.
    counts: how many that may be. end_share: share of these clips whose frames are given at the end, not at the start.
    """

    first_frame_share: float = 0.2
    several_share: float = 0.2
    counts: Sequence[int] = (2, 3, 4, 6)
    end_share: float = 0.25

    def __post_init__(self) -> None:
        total = self.first_frame_share + self.several_share
        if min(self.first_frame_share, self.several_share) < 0 or total > 1:
            raise ValueError(
                f"first_frame_share and several_share add up to {total:g}: use shares that add up to 0 to 1"
            )
        if not self.counts or min(self.counts) < 1:
            raise ValueError("counts are numbers of latent frames of at least one, such as [2, 4]")

    def draw(self, frames: int, rng: random.Random) -> Tensor:
        """Draw which latent frames (F,) of a clip are given; never all."""
        draw, given = rng.random(), torch.zeros(frames, dtype=torch.bool)
        if draw < self.first_frame_share:
            given[:1] = True
        elif draw < self.first_frame_share + self.several_share:
            count = rng.choice(self.counts)
            given = torch.arange(frames) < count
            given = given.flip(0) if rng.random() < self.end_share else given
        return given if not given.all() else torch.zeros_like(given)


@dataclass(frozen=True)
class BatchConfig:
    """How batches are drawn.

    tokens: of a batch. max_token_dropout: largest share of a clip's tokens that may be dropped. caption_dropout: share of
    videos without a caption.
    """

    tokens: int = 2800
    max_token_dropout: float = 0.2
    caption_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.max_token_dropout < 1:
            raise ValueError(f"max_token_dropout is {self.max_token_dropout}: it is a share from 0 to below 1")


@dataclass(frozen=True)
class TokenBatch:
    """K tokens of each of B clips.

    video, noise: (B, K, C). sigma, sprite: (B, K). is_context: (B, K), tokens of given frames. rope: (B, K, D/2), the
    rotary embedding of their positions. captions, buckets: of the clips. kept: the numbers of the tokens of each clip.
    """

    video: Tensor
    noise: Tensor
    sigma: Tensor
    sprite: Tensor
    is_context: Tensor
    rope: Tensor
    captions: Sequence[str]
    buckets: Sequence[Bucket]
    kept: Sequence[Tensor]

    def to(self, device: torch.device) -> TokenBatch:
        """Move all tensors to a device."""
        moved: dict[str, Any] = {name: p.to(device) for name, p in vars(self).items() if isinstance(p, Tensor)}
        return replace(self, **moved)


class BucketedClips(Protocol):
    """Numbered clips of buckets."""

    def weight(self, bucket: Bucket) -> int:
        """Return how often a bucket is drawn, relative to others."""

    def draw(self, bucket: Bucket, rng: random.Random) -> int:
        """Draw the number of a clip of a bucket."""

    def clip(self, bucket: Bucket, number: int) -> tuple[Tensor, Tensor]:
        """Return tokens (N, C) and sprite cover (N,) of a clip, frame by frame, row by row."""

    def caption(self, bucket: Bucket, number: int, rng: random.Random) -> str:
        """Return a caption of a clip."""

    def facts(self) -> dict[str, Any]:
        """Return facts that must be equal for a run to resume; `clips` counts the clips."""


class BatchSampler:
    """Draws batches of tokens.

    draw_sigmas: (generator, clips, tokens) -> sigmas of the clips. rope: bucket -> rotary embedding of its tokens.
    """

    def __init__(
        self, clips: BucketedClips, buckets: Sequence[Bucket], config: BatchConfig, prefix: PrefixConditioning,
        draw_sigmas: Callable[[torch.Generator, int, int], Tensor], rope: Callable[[Bucket], Tensor],
    ):  # fmt: skip
        self.clips, self.config, self.prefix, self.draw_sigmas, self.rope = clips, config, prefix, draw_sigmas, rope
        self.groups = group_buckets(buckets, config.max_token_dropout)

    def __call__(self, generator: torch.Generator) -> TokenBatch:
        """Draw a batch of one group: as many clips as fit, from each bucket in proportion to its weight."""
        rng = random.Random(int(torch.randint(1 << 62, (), generator=generator)))
        weights = [[self.clips.weight(bucket) for bucket in group] for group in self.groups]
        chosen = rng.choices(range(len(weights)), [sum(each) for each in weights])[0]
        group = self.groups[chosen]
        kept = draw_token_count(generator, group, self.config.max_token_dropout)
        drawn = rng.choices(group, weights[chosen], k=max(1, self.config.tokens // kept))
        sigmas = self.draw_sigmas(generator, len(drawn), kept)
        rows = [self._row(bucket, sigma, kept, rng, generator) for bucket, sigma in zip(drawn, sigmas)]
        video, sigma, sprite, is_context, rope, captions, numbers = (list(part) for part in zip(*rows))
        clean = torch.stack(video)
        return TokenBatch(
            clean, torch.randn(clean.shape, generator=generator), torch.stack(sigma), torch.stack(sprite),
            torch.stack(is_context), torch.stack(rope), captions, drawn, numbers,
        )  # fmt: skip

    def _row(self, bucket: Bucket, sigma: Tensor, kept: int, rng: random.Random, generator: torch.Generator) -> tuple:
        """Draw one clip: video, sigma, sprite, is_context and rope of the kept tokens, its caption, and their numbers."""
        number = self.clips.draw(bucket, rng)
        video, sprite = self.clips.clip(bucket, number)
        frames, rows, columns = bucket.shape
        context = self.prefix.draw(frames, rng).repeat_interleave(rows * columns)
        caption = "" if rng.random() < self.config.caption_dropout else self.clips.caption(bucket, number, rng)
        keep = draw_tokens(generator, bucket.tokens, kept)
        at = torch.where(context, 0.0, sigma)
        return video[keep], at[keep], sprite[keep], context[keep], self.rope(bucket)[keep], caption, keep
