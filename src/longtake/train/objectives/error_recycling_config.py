"""The table of the recipe `error_recycling`: its settings, and the published sets of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from longtake.core.errors import ConfigError
from longtake.train.objectives.error_bank import Replacement
from longtake.train.objectives.error_injection import ErrorShares

# Published settings: paper (Table 9) and scripts of Stable Video Infinity 1.0, and two further sets.
PRESETS: Mapping[str, Mapping[str, float]] = {
    "svi-film": dict(video_prob=0.9, context_prob=0.9, noise_prob=0.01, clean_prob=0.5),
    "svi-shot": dict(video_prob=0.9, context_prob=0.9, noise_prob=0.01, clean_prob=0.2),
    "svi-requested": dict(video_prob=0.5, context_prob=0.5, noise_prob=0.5, clean_prob=0.0),
    "none": dict(video_prob=0.0, context_prob=0.0, noise_prob=0.0, clean_prob=1.0),  # the same training without errors
}
# Image conditions of the presets, see `PrefixLengths`: defaults of the inner recipe's table `prefix`.
PREFIX_PRESETS: Mapping[str, Mapping[str, str]] = {
    "svi-film": dict(mask="first", pad="grey"),
    "svi-shot": dict(mask="first", pad="image"),
    "svi-requested": dict(mask="first", pad="grey"),
}


@dataclass(frozen=True)
class Rounds:
    """Errors of the context frames of the same video, in place of errors from the bank (count 0: off).

    count: the network denoises the video up to so many times, each time conditioned on the result of the round before.
    num_inference_steps, guidance: of each round. max_sigma: to which a block-causal network noises the result of the round
    before. repeats: copies of each of these videos in a batch, with noise and sigmas of their own, in place of other
    videos, since rounds take most of the time. through_vae: results also pass through the VAE as 8-bit frames, as at a
    cut between clips.
    """

    count: int = 0
    num_inference_steps: int = 6
    guidance: float = 1.0
    max_sigma: float = 0.7
    repeats: int = 1
    through_vae: bool = False

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 < self.max_sigma <= 1:
            raise ConfigError("count is not negative, and max_sigma is a sigma above 0, at most 1")
        if self.num_inference_steps < 1 or self.repeats < 1 or (self.repeats > 1 and not self.count):
            raise ConfigError("num_inference_steps and repeats are at least 1, and repeats needs a count of rounds")


@dataclass(frozen=True)
class BankConfig:
    """The error bank. warmup: batches whose errors all ranks share. clean_update_prob: probability that the errors of a
    clean batch are stored. buckets, capacity, replacement, ram_gib: see `error_bank.ErrorBank`.
    """

    buckets: int = 50
    capacity: int = 500
    replacement: Replacement = "nearest"
    ram_gib: float = 8.0
    warmup: int = 50
    clean_update_prob: float = 0.1

    def __post_init__(self) -> None:
        if self.warmup < 0 or not 0 <= self.clean_update_prob <= 1:
            raise ConfigError("warmup is not negative, and clean_update_prob is a probability from 0 to 1")


@dataclass(frozen=True)
class LoraSettings:
    """Settings of the LoRA.

    rank: of the update. alpha: the update is scaled by alpha / rank (0: alpha = rank). targets: suffixes of the names of its
    layers (none: attention and feed-forward, as the model family names them). seed: of the initial weights.
    """

    rank: int = 128
    alpha: float = 128.0
    targets: Sequence[str] = ()
    seed: int = 0


@dataclass(frozen=True)
class ErrorRecyclingConfig:
    """Settings of error recycling.

    recipe, settings: the recipe that draws samples, and its table. preset: see PRESETS; errors: what differs from it.
    rounds, bank, lora: see `Rounds`, `BankConfig` and `LoraSettings`. sigma_distribution: "published" draws one of 1000
    shifted sigmas uniformly and weights the loss by it, "recipe" keeps the sigmas of the recipe. shift: of the published
    sigmas. sprite_loss_weight: extra weight of the sprite, where the clips have one.
    """

    recipe: str = "image_to_video"
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "svi-film"
    errors: ErrorShares = field(default_factory=ErrorShares)
    rounds: Rounds = field(default_factory=Rounds)
    bank: BankConfig = field(default_factory=BankConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)
    sigma_distribution: Literal["published", "recipe"] = "published"
    shift: float = 5.0
    sprite_loss_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"preset is {self.preset!r}; it must be one of {', '.join(PRESETS)}")
        missing: dict[str, Any] = {
            name: value for name, value in PRESETS[self.preset].items() if getattr(self.errors, name) is None
        }
        object.__setattr__(self, "errors", replace(self.errors, **missing))

    @property
    def needs_bank(self) -> bool:
        """Whether stored errors are drawn again: context frames with rounds have errors of their own."""
        errors = self.errors
        return bool(errors.video_prob or errors.noise_prob or (errors.context_prob and not self.rounds.count))
