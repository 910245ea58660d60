"""The table [loop] of a training config: how any recipe is optimised, logged, evaluated and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from longtake.core.errors import ConfigError
from longtake.core.flat_config import from_flat, group, to_flat

OptimiserName = Literal["adamw", "muon"]
Shard = Literal["none", "zero2", "zero3"]

# Settings that may differ when a run resumes, in [loop] and in the table of any recipe.
FREE = (
    "steps", "log_every", "save_every", "eval_every", "keep_checkpoints", "best_metric", "max_bad_steps", "tensorboard",
    "checkpointing", "shard", "accumulate",
)  # fmt: skip
FREE_IN_RECIPES = ("steps", "eval_prompts", "folder", "cache", "cache_gb")  # data.json records the content of `folder`

RANGES = (("lr", 0, 10), ("decay", 0, 1), ("weight_decay", 0, 100), ("grad_clip", 0, 1e9), ("ema", 0, 1))


@dataclass(frozen=True)
class UpdateConfig:
    """How a step moves the weights.

    lr: peak learning rate. warmup: steps over which the learning rate rises to its peak. decay: share of the run, from 0 to
    1, at whose end a cosine lowers the learning rate to 0. optimiser: adamw, or muon for the hidden matrices and AdamW for
    all other weights. betas: decay per step of AdamW's two moments. weight_decay: share of a weight that a step takes away,
    times the learning rate. grad_clip: largest norm of the gradient. ema: decay per step of the averaged weights, which evaluations and exports use
    (0: the weights themselves). accumulate: batches per step and process. max_bad_steps: the run stops after more than this
    many consecutive steps with a non-finite loss or gradient.
    """

    lr: float = 1e-3
    optimiser: OptimiserName = "adamw"
    betas: Sequence[float] = (0.9, 0.98)
    warmup: int = 50
    decay: float = 1.0
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    ema: float = 0.995
    accumulate: int = 1
    max_bad_steps: int = 5

    def __post_init__(self) -> None:
        _check(self, at_least_one=("accumulate",), not_negative=("max_bad_steps", "warmup"))
        for name, least, most in RANGES:
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie from {least:g} to {most:g}")
        object.__setattr__(self, "betas", tuple(self.betas))  # TOML and JSON hold lists
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"betas is {list(self.betas)}; it must be two numbers from 0 to below 1, such as [0.9, 0.999]"
            )
        if self.lr == 0 or self.grad_clip == 0 or self.ema == 1:
            raise ConfigError("lr and grad_clip must be above 0, and ema below 1, or nothing is trained")


@dataclass(frozen=True)
class ComputeConfig:
    """How the networks are computed.

    dtype: compute dtype of the networks; the weights stay in float32.
    checkpointing: gradient checkpointing, recomputes layers in the backward pass to save memory.
    compile: compile the layers with torch.compile; the first step takes a minute, later steps are faster.
    shard: what the processes of torchrun divide: nothing, gradients and optimiser state (zero2), weights too (zero3).
    """

    dtype: Literal["fp32", "bf16"] = "fp32"
    checkpointing: bool = False
    compile: bool = False
    shard: Shard = "none"


@dataclass(frozen=True)
class RecordConfig:
    """What a run writes.

    log_every: steps between log lines. save_every: steps between checkpoints (0: only the last). eval_every: steps between
    evaluations (0: none). keep_checkpoints: number of the newest checkpoints that stay on disk.
    best_metric: a score whose best checkpoint is kept as well ("-name": lower is better).
    tensorboard: write TensorBoard events too.
    """

    log_every: int = 20
    save_every: int = 200
    eval_every: int = 0
    keep_checkpoints: int = 2
    best_metric: str = ""
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _check(self, at_least_one=("log_every", "keep_checkpoints"), not_negative=("save_every", "eval_every"))
        if self.best_metric and not self.eval_every:
            raise ConfigError(f'best_metric = "{self.best_metric}" needs scores: set eval_every to a number of steps')


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the optimiser loop.

    The keys of its groups stand in the table [loop] too.

    steps: steps of the whole run. seed: of weights, data and noise.
    """

    steps: int
    seed: int = 0
    update: UpdateConfig = group(UpdateConfig)
    compute: ComputeConfig = group(ComputeConfig)
    record: RecordConfig = group(RecordConfig)

    def __post_init__(self) -> None:
        _check(self, at_least_one=("steps",))

    @staticmethod
    def of(**keys: Any) -> LoopConfig:
        """Make the config of keys of the table [loop], such as `steps=10, lr=1e-3`. ConfigError if a value is impossible."""
        config: LoopConfig = from_flat(LoopConfig, keys)
        return config

    def with_changes(self, **keys: Any) -> LoopConfig:
        """Return the config with other values of some keys of the table."""
        return LoopConfig.of(**{**to_flat(self), **keys})


def _check(config: Any, at_least_one: Sequence[str] = (), not_negative: Sequence[str] = ()) -> None:
    """Raise ConfigError if one of the named settings is too small."""
    for name in at_least_one:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be at least one")
    for name in not_negative:
        if getattr(config, name) < 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must not be negative")
