"""What the trainer is told: the settings of the loop, and the recipe that it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from longtake.train.config import ConfigError
from longtake.train.optim import Kind
from longtake.train.shards import Loss, Shard

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# settings that may be others when a run goes on: in [loop], and in any recipe's table
FREE = ("steps", "log", "save", "check", "keep", "best", "skips", "tensorboard", "checkpointing", "shard", "accumulate")
FREE_IN_RECIPES = ("steps", "judged", "folder", "cache", "cache_gb")  # what is in a folder, data.json says


@dataclass(frozen=True)
class Settings:
    """How to optimise. lr is the peak; it warms up over `warmup` steps and falls over the last `decay` of the run.

    clip: longest gradient. ema: decay of the averaged weights. accumulate: batches of each process per step.
    dtype: what networks compute in; weights stay in fp32. checkpointing: recompute layers in the backward pass to save
    memory. compile: layers by torch.compile, a minute at the start and faster from then on. shard: what torchrun's
    processes share out: nothing, gradients and optimiser (zero2), weights too (zero3).
    skips: steps in a row whose loss may be no number. log, save and check: steps between lines, checkpoints and
    validations (0: none but the last checkpoint). keep: newest checkpoints on disk. best: a score of the check whose
    best checkpoint is kept too (-name: the lower the better). tensorboard: write events as well.
    """

    steps: int
    lr: float = 1e-3
    optimiser: Kind = "adamw"
    warmup: int = 50
    decay: float = 1.0
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.995
    seed: int = 0
    accumulate: int = 1
    dtype: Literal["fp32", "bf16"] = "fp32"
    checkpointing: bool = False
    compile: bool = False
    shard: Shard = "none"
    skips: int = 5
    log: int = 20
    save: int = 200
    check: int = 0
    keep: int = 2
    best: str = ""
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least one")
        for name in ("save", "check", "skips", "warmup"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.best and not self.check:
            raise ConfigError(f'best = "{self.best}" needs scores: say every how many steps to `check`')


class Recipe(Protocol):
    """What is trained, and on what. A recipe is made from its table of the config and the run's folder.

    It may also have `dataset`, `frozen`, `describe` and `scores` (see HasData, ReadsFrozen, DescribesBatch, NamesScores),
    and `restores_frozen = True`, if making it anew brings back frozen weights, which are then left out of checkpoints.
    `uniform = True` says that every batch
    makes the same calls of the network, which sharding layer by layer needs (see shards.make_step).
    """

    @property
    def module(self) -> nn.Module:
        """What is trained: only its weights with requires_grad."""

    def loss(self, step: int, rng: torch.Generator) -> Tensor | Loss:
        """The loss of a batch, () with gradients; all chance comes from rng. A `Loss` also says how much it weighs."""

    def check(self, step: int, out: Path) -> dict[str, float]:
        """Scores of the module as it is now (the loop has put the averaged weights in); files may go to out."""

    def finish(self, out: Path) -> None:
        """Training is done (averaged weights are in): write what the next stage needs."""


@runtime_checkable
class HasData(Protocol):
    """A recipe that can tell whether its data are still the same."""

    def dataset(self) -> Mapping[str, Any]:
        """Facts about the data, json-able; a run goes on only with equal ones."""


@runtime_checkable
class ReadsFrozen(Protocol):
    """A recipe that reads weights anew whenever a run goes on, which are in no checkpoint."""

    def frozen(self, init: bool = False) -> Mapping[str, Sequence[Path]]:
        """Their files, by the setting that names them; a run goes on only with equal ones. init: also those that the
        network started from, for who keeps these frozen."""


@runtime_checkable
class DescribesBatch(Protocol):
    """A recipe that can say what a batch was."""

    def describe(self, step: int, rng: torch.Generator) -> str:
        """The batch that `loss` drew from the same rng, in a line: captions, clip numbers, levels."""


@runtime_checkable
class NamesScores(Protocol):
    """A recipe that can say what scores its check gives, before it gives any."""

    def scores(self) -> Sequence[str] | None:
        """Their names; None if it cannot tell after all."""


@runtime_checkable
class KeepsFiles(Protocol):
    """A recipe that needs more than weights to go on."""

    def keep(self, folder: Path) -> None:
        """Write it into the folder of a checkpoint, on every rank."""

    def recall(self, folder: Path) -> None:
        """Read it from there."""


MakeRecipe = Callable[[Mapping[str, Any], Path], Recipe]
