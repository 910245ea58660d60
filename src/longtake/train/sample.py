"""One call of a video network in training, and what the network makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from longtake.models.wan import WanTransformer
from longtake.models.wan_block import Span
from longtake.noise import mix
from longtake.train.teacher import banded, teacher_spans

Told = Sequence[tuple[int, str]]  # captions of one video, and the latent from which on each holds
Encode = Callable[[Sequence[str]], Tensor]  # captions -> embeddings (P, L, D)


@dataclass(frozen=True)
class Sample:
    """Videos at noise levels. B videos, C channels, F latent frames, h w latent size.

    video, noise (B C F h w); level (B F); sprite (B F h w), its share of each latent pixel; told: captions.
    known (B F): frames that the network is not to make, but goes on from. before (B C F h w): clean versions of all
    frames, which stand before the noisy ones in the same call (teacher forcing of a block-causal network).
    beside (B M F h w): channels beside x. image (B L D): CLIP tokens of the first frame. track (B F K): what drives each
    frame.
    """

    video: Tensor
    noise: Tensor
    level: Tensor
    sprite: Tensor
    told: Sequence[Told]
    known: Tensor | None = None
    before: Tensor | None = None
    beside: Tensor | None = None
    image: Tensor | None = None
    track: Tensor | None = None

    @property
    def frames(self) -> int:
        """Latent frames of a video."""
        return self.video.shape[2]

    @property
    def target(self) -> Tensor:
        """The velocity noise - video."""
        return self.noise - self.video

    def cut(self, frames: int) -> Sample:
        """Its first frames alone; prompts that begin later are left out."""
        names = ("level", "sprite", "known", "before", "beside", "track")
        axes = {"level": 1, "sprite": 1, "known": 1, "track": 1}
        parts = {name: getattr(self, name) for name in (*names, "video", "noise")}
        short = {n: p.narrow(axes.get(n, 2), 0, frames) for n, p in parts.items() if p is not None}
        told = [[(first, text) for first, text in captions if first < frames] for captions in self.told]
        return replace(self, told=told, **short)

    def picked(self, rows: Sequence[int]) -> Sample:
        """These of its videos, in this order."""
        parts = {name: part[list(rows)] for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, told=[self.told[row] for row in rows], **parts)

    def to(self, device: torch.device) -> Sample:
        """The same on a device."""
        moved: dict[str, Any] = {name: p.to(device) for name, p in vars(self).items() if isinstance(p, Tensor)}
        return replace(self, **moved)

    def untold(self) -> Sample:
        """The same without captions: the branch that guidance moves away from."""
        return replace(self, told=[[(0, "")]] * len(self.told))

    def at(self, level: Tensor) -> Sample:
        """All frames noisy, at these levels (B F), behind the clean ones that stand before them."""
        return replace(self, level=level, known=None)


def guided(velocity: Callable[[Sample], Tensor], sample: Sample, guidance: float) -> Tensor:
    """A network's velocity (B C F h w) of a sample as it is in use, under guidance (1: that of the captions alone)."""
    told = velocity(sample)
    return told if guidance == 1 else torch.lerp(velocity(sample.untold()), told, guidance)


def blocks_of(net: WanTransformer, frames: int) -> list[int] | None:
    """The attention block of each frame of a window, if the network is block-causal."""
    config = net.config
    return [frame // config.block for frame in range(frames)] if config.causal else None


def velocity(net: WanTransformer, sample: Sample, encode: Encode) -> Tensor:
    """The network's velocity (B C F h w) of the noisy frames."""
    frames, level = sample.frames, sample.level
    seen = mix(sample.video, sample.noise, level)
    if sample.beside is not None:
        seen = torch.cat([seen, sample.beside], 1)
    texts, scene = texts_and_scene(sample.told, frames)
    text = [net.text_memory(encode(words), sample.image) for words in texts]
    blocks = blocks_of(net, frames)
    if sample.before is None:
        spans: list[Span] | None = None if blocks is None else banded(blocks, net.config.view)
        return net(seen, level, text, scene=scene, spans=spans, track=sample.track)
    if blocks is None:
        raise ValueError("only a block-causal network is trained with clean frames before the noisy ones")
    track = None if sample.track is None else torch.cat([sample.track, sample.track], 1)
    both, levels = torch.cat([sample.before, seen], 2), torch.cat([torch.zeros_like(level), level], 1)
    spans, places = teacher_spans(blocks, net.config.view), 2 * list(range(frames))
    return net(both, levels, text, places, scene=2 * scene, spans=spans, track=track)[:, :, frames:]


def texts_and_scene(told: Sequence[Told], frames: int) -> tuple[list[list[str]], list[int]]:
    """The captions of all videos in every stretch in which none changes, and the stretch of each frame (F,)."""
    edges = sorted({first for captions in told for first, _ in captions})
    texts = [[next(words for first, words in reversed(each) if first <= edge) for each in told] for edge in edges]
    return texts, [sum(edge <= frame for edge in edges) - 1 for frame in range(frames)]


@torch.no_grad()
def remade(velocity: Callable[[Sample], Tensor], sample: Sample, levels: Tensor) -> Tensor:
    """A network's own version of the videos (B C F h w): noised to the first of the levels (B, N + 1), then in N Euler
    calls brought to the last one."""
    rows = levels[..., None].expand(*levels.shape, sample.frames)
    x = mix(sample.video, sample.noise, rows[:, 0])
    for now, after in pairwise(rows.unbind(1)):
        x = x + (after - now)[:, None, :, None, None] * velocity(replace(sample.at(now), video=x, noise=x)).float()
    return x
