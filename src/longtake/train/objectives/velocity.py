"""The sample of a training step, and the velocity that a video network predicts for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from longtake.core.noise import mix
from longtake.models.layers import Span
from longtake.train.interfaces import Captions, Recipe
from longtake.train.objectives.teacher_forcing import banded, teacher_spans

EncodeText = Callable[[Sequence[str]], Tensor]  # captions -> embeddings (P, L, D)


@dataclass(frozen=True)
class Sample:
    """Videos with noise. B videos, C channels, F latent frames, h w latent size.

    video, noise: (B, C, F, h, w). sigma: (B, F). sprite: (B, F, h, w), share of each latent pixel that a sprite covers.
    captions: of each video. is_context: (B, F), frames that the network is conditioned on and does not learn.
    clean_context: (B, C, F, h, w), clean versions of all frames that stand before the noisy ones in the same call
    (teacher forcing of a block-causal network). concat: (B, M, F, h, w), channels concatenated to the noisy latents.
    image: (B, L, D), CLIP tokens of the first frame. control: (B, F, K), the control signal of each frame.
    """

    video: Tensor
    noise: Tensor
    sigma: Tensor
    sprite: Tensor
    captions: Sequence[Captions]
    is_context: Tensor | None = None
    clean_context: Tensor | None = None
    concat: Tensor | None = None
    image: Tensor | None = None
    control: Tensor | None = None

    @property
    def frames(self) -> int:
        """Latent frames of a video."""
        return self.video.shape[2]

    @property
    def target(self) -> Tensor:
        """The velocity noise - video."""
        return self.noise - self.video

    def first_frames(self, frames: int) -> Sample:
        """Return the first latent frames alone; captions that begin later are dropped."""
        names = ("sigma", "sprite", "is_context", "clean_context", "concat", "control", "video", "noise")
        axes = {"sigma": 1, "sprite": 1, "is_context": 1, "control": 1}
        parts = {name: getattr(self, name) for name in names}
        short = {n: p.narrow(axes.get(n, 2), 0, frames) for n, p in parts.items() if p is not None}
        captions = [[(first, text) for first, text in each if first < frames] for each in self.captions]
        return replace(self, captions=captions, **short)

    def select(self, rows: Sequence[int]) -> Sample:
        """Return some of the videos, in this order."""
        parts = {name: part[list(rows)] for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, captions=[self.captions[row] for row in rows], **parts)

    def to(self, device: torch.device) -> Sample:
        """Move all tensors to a device."""
        moved: dict[str, Any] = {name: p.to(device) for name, p in vars(self).items() if isinstance(p, Tensor)}
        return replace(self, **moved)

    def without_captions(self) -> Sample:
        """Return the unconditional branch of guidance: the same sample with empty captions."""
        return replace(self, captions=[[(0, "")]] * len(self.captions))

    def with_sigma(self, sigma: Tensor) -> Sample:
        """Return the sample with all frames noisy, at sigmas (B, F); clean context before them stays."""
        return replace(self, sigma=sigma, is_context=None)


class VideoNetwork(Protocol):
    """A network with a sigma for each frame. config says whether it is `causal`, with which `block`, and its widest view."""

    config: Any

    def text_kv(self, text: Tensor, image: Tensor | None = None) -> Any:
        """Return what the network reads of texts (B, L, D) and of image features (B, L, D), once for all its calls."""

    def __call__(
        self, x: Tensor, sigma: Tensor, text: Sequence[Any], positions: Sequence[float] | None = None, *,
        scene: Sequence[int] | None, spans: Sequence[Span] | None, control: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Predict the velocity (B, C, F, h, w) of noisy latents x at sigmas (B, F).

        text, scene: what `text_kv` returned, and which of them each frame follows. positions: (F,) in time. spans: which
        frames attend to which. control: (B, F, K), the control signal of each frame.
        """


class PredictsVelocity(Protocol):
    """An object that predicts the velocity of samples, such as a network with its text encoder."""

    def velocity(self, sample: Sample) -> Tensor:
        """Predict the velocity (B, C, F, h, w)."""


class DrawsSamples(Recipe, Protocol):
    """A recipe that other recipes can train on top of: it draws samples, and predicts their velocities."""

    @property
    def video(self) -> PredictsVelocity:
        """The network with its text encoder."""

    @property
    def draw(self) -> Callable[[int, torch.Generator], Sample]:
        """The function that draws the sample of a step."""


@runtime_checkable
class HasWholeClips(Protocol):
    """A recipe that draws batches of another kind, and can draw samples of whole clips of one shape instead."""

    def whole_clips(self) -> DrawsSamples:
        """Return a recipe of whole clips. ConfigError if the config asks for several shapes."""


def guided_velocity(velocity: Callable[[Sample], Tensor], sample: Sample, guidance: float) -> Tensor:
    """Predict a velocity (B, C, F, h, w) with classifier-free guidance (1: no guidance)."""
    conditional = velocity(sample)
    return conditional if guidance == 1 else torch.lerp(velocity(sample.without_captions()), conditional, guidance)


def blocks_of(net: VideoNetwork, frames: int) -> list[int] | None:
    """Return the attention block of each frame of a window, if the network is block-causal."""
    config = net.config
    return [frame // config.block for frame in range(frames)] if config.causal else None


def velocity(net: VideoNetwork, sample: Sample, encode: EncodeText) -> Tensor:
    """Predict the velocity (B, C, F, h, w) of the noisy frames of a sample."""
    frames, sigma = sample.frames, sample.sigma
    noisy = mix(sample.video, sample.noise, sigma)
    if sample.concat is not None:
        noisy = torch.cat([noisy, sample.concat], 1)
    texts, scene = texts_and_scene(sample.captions, frames)
    text = [net.text_kv(encode(words), sample.image) for words in texts]
    blocks = blocks_of(net, frames)
    if sample.clean_context is None:
        spans: list[Span] | None = None if blocks is None else banded(blocks, net.config.max_latent_frames)
        return net(noisy, sigma, text, scene=scene, spans=spans, control=sample.control)
    if blocks is None:
        raise ValueError("only a block-causal network is trained with clean frames before the noisy ones")
    control = None if sample.control is None else torch.cat([sample.control, sample.control], 1)
    both, sigmas = torch.cat([sample.clean_context, noisy], 2), torch.cat([torch.zeros_like(sigma), sigma], 1)
    spans, places = teacher_spans(blocks, net.config.max_latent_frames), 2 * list(range(frames))
    return net(both, sigmas, text, places, scene=2 * scene, spans=spans, control=control)[:, :, frames:]


def texts_and_scene(captions: Sequence[Captions], frames: int) -> tuple[list[list[str]], list[int]]:
    """Split a window where any caption changes.

    Returns the captions of all videos for each stretch between changes, and the stretch of each frame (F,).
    """
    edges = sorted({first for each in captions for first, _ in each})
    texts = [[next(words for first, words in reversed(each) if first <= edge) for each in captions] for edge in edges]
    return texts, [sum(edge <= frame for edge in edges) - 1 for frame in range(frames)]


@torch.no_grad()
def redenoised(velocity: Callable[[Sample], Tensor], sample: Sample, sigmas: Tensor) -> Tensor:
    """Noise the videos to the first of the sigmas (B, N + 1) and denoise them in N Euler steps to the last one.

    Returns videos (B, C, F, h, w) with the network's own errors.
    """
    rows = sigmas[..., None].expand(*sigmas.shape, sample.frames)
    x = mix(sample.video, sample.noise, rows[:, 0])
    for now, after in pairwise(rows.unbind(1)):
        noisy = replace(sample.with_sigma(now), video=x, noise=x)
        x = x + (after - now)[:, None, :, None, None] * velocity(noisy).float()
    return x
