"""Error injection: stored errors of a network are added to later inputs (Stable Video Infinity), with its sigmas and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from longtake.core.errors import ConfigError
from longtake.core.sigmas import shifted
from longtake.train.objectives.error_bank import ErrorBank
from longtake.train.objectives.velocity import Sample

STEPS = 1000  # sigmas of the published distribution
CONTEXT_SIGMA_MAX = 0.05  # frames with sigma up to this are context, if the recipe sets no context_sigma_max


@dataclass(frozen=True)
class ErrorShares:
    """How often errors are added to a video.

    video_prob, noise_prob, context_prob: probability of an error in the video, the noise and the context frames
    (None: that of the preset). clean_prob: probability of no error at all (None: likewise). context_latents: context latent frames that get an
    error (in rounds with clean context before the noisy frames: all). jitter: errors are scaled by up to this much, up or
    down.
    """

    video_prob: float | None = None
    noise_prob: float | None = None
    context_prob: float | None = None
    clean_prob: float | None = None
    context_latents: int = 3
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("video_prob", "noise_prob", "context_prob", "clean_prob"):
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; it is a probability from 0 to 1")
        if self.context_latents < 1 or self.jitter < 0:
            raise ConfigError("context_latents is at least 1, and jitter is not negative")


def published_sigmas(generator: torch.Generator, count: int, shift: float) -> Tensor:
    """Draw sigmas (B,): entries of the grid of 1000 shifted ones, each equally likely."""
    u = 1 - torch.randint(STEPS, (count,), generator=generator).double() / STEPS
    return shifted(u, shift).float()


def sigma_weight(sigma: Tensor, shift: float) -> Tensor:
    """Weight sigmas by a bell around the middle timestep: 0 at the lowest, 1 on average over the grid."""
    grid = bell(shifted(1 - torch.arange(STEPS, dtype=torch.float64) / STEPS, shift))
    return ((bell(sigma.double()) - grid.min()) / (grid - grid.min()).mean()).to(sigma)


def bell(sigma: Tensor) -> Tensor:
    """Compute exp(-2 ((t - 500) / 1000)^2) of the timestep t = 1000 sigma."""
    return torch.exp(-2 * (sigma - 0.5) ** 2)


# ---------------------------------------------------------------- errors of one batch
@dataclass(frozen=True)
class InjectedErrors:
    """The errors added to one video: of the video and the noise (C, F, h, w), and of context frames (C, m, h, w), or None."""

    video: Tensor | None = None
    noise: Tensor | None = None
    context: Tensor | None = None
    clean: bool = True


def draw_errors(
    shares: ErrorShares, bank: ErrorBank, sigma: Tensor, generator: torch.Generator, own: Tensor | None = None
) -> InjectedErrors:
    """Draw which errors are added to a video with sigmas (F,), and the errors.

    own: (C, m, h, w), errors of this very video, which its context frames then get.
    """
    probabilities = (shares.noise_prob, shares.context_prob, shares.video_prob, shares.clean_prob)
    noise_prob, context_prob, video_prob, clean_prob = (float(each or 0) for each in probabilities)
    noise, context, video, clean = torch.rand(4, generator=generator).tolist()
    if clean < clean_prob:
        return InjectedErrors()
    highest, found = float(sigma.max()), dict[str, Tensor]()
    if noise < noise_prob and (entry := bank.draw(generator, highest)):
        found["noise"] = _jittered(entry.noise, shares.jitter, generator)
    count = min(shares.context_latents, len(sigma))
    if context < context_prob and own is not None:
        found["context"] = _jittered(own, shares.jitter, generator)
    elif context < context_prob and (entry := bank.draw(generator)):
        error = entry.video
        first = int(torch.randint(error.shape[1] - count + 1, (), generator=generator))
        found["context"] = _jittered(error[:, first : first + count], shares.jitter, generator)
    if video < video_prob and (entry := bank.draw(generator, highest)):
        found["video"] = _jittered(entry.video, shares.jitter, generator)
    return InjectedErrors(**found, clean=False)


def _jittered(error: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Scale an error by 1 - jitter to 1 + jitter; the random number is drawn either way."""
    return error * (1 + jitter * (2 * float(torch.rand((), generator=generator)) - 1))


def with_errors(
    sample: Sample, errors: Sequence[InjectedErrors], context_sigma_max: float = CONTEXT_SIGMA_MAX
) -> Sample:
    """Add errors to the videos of a sample, to their noise and to their context.

    The context is the latents concatenated by channel, or the clean frames before the noisy ones, or else the frames with
    sigma up to `context_sigma_max`.
    """
    video, noise = sample.video.clone(), sample.noise.clone()
    concat, before = (None if part is None else part.clone() for part in (sample.concat, sample.clean_context))
    for i, one in enumerate(errors):
        if one.video is not None:
            video[i] += one.video
        if one.noise is not None:
            noise[i] += one.noise
        if one.context is not None:
            channels, count = one.context.shape[:2]
            if concat is not None:
                concat[i, -channels:, :count] += one.context
            elif before is not None:
                before[i, :, :count] += one.context
            else:
                context = (sample.sigma[i] <= context_sigma_max).nonzero()[:count, 0]
                video[i][:, context] += one.context[:, : len(context)]
    return replace(sample, video=video, noise=noise, concat=concat, clean_context=before)
