"""Interfaces between the training loop and its recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Captions = Sequence[tuple[int, str]]  # captions of one video, each with the latent frame from which on it holds


class Loss(NamedTuple):
    """A loss with a weight: the batches of a step count by their weights. total: (), the sum of weighted errors."""

    total: Tensor
    weight: Tensor | float


class Recipe(Protocol):
    """A training recipe: the module that is trained, its loss and its evaluation.

    A recipe is made from its table of the config and the run's folder. It may also implement the protocols below.
    Two optional attributes: `restores_frozen = True` says that making the recipe again restores the frozen weights, so
    that checkpoints leave them out; `uniform = True` says that every batch makes the same calls of the network, which
    sharding layer by layer needs (`run.fsdp.shard_module`).
    """

    @property
    def module(self) -> nn.Module:
        """The module that is trained; only its weights with requires_grad move."""

    def loss(self, step: int, generator: torch.Generator) -> Tensor | Loss:
        """Compute the loss of a batch, () with gradients. Every random number must come from the generator."""

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Return the scores of the module, into which the loop has put the averaged weights; may write files to out."""

    def finish(self, out: Path) -> None:
        """Write what the next stage needs, after the last step, with the averaged weights in the module."""


@runtime_checkable
class HasData(Protocol):
    """A recipe that can tell whether its data are still the same."""

    def dataset(self) -> Mapping[str, Any]:
        """Return facts about the data, JSON-serialisable; a run resumes only if they are equal."""


@runtime_checkable
class ReadsFrozen(Protocol):
    """A recipe with frozen weights that no checkpoint holds, so that every start reads them again."""

    def frozen(self, init: bool = False) -> Mapping[str, Sequence[Path]]:
        """Return the files of frozen weights by the setting that names them; a run resumes only if they are equal.

        init: include the files that the network was initialised from, for recipes that keep those weights frozen.
        """


@runtime_checkable
class DescribesBatch(Protocol):
    """A recipe that can describe a batch."""

    def describe(self, step: int, generator: torch.Generator) -> str:
        """Describe, in one line, the batch that `loss` draws from the same generator: captions, clip numbers, sigmas."""


@runtime_checkable
class NamesScores(Protocol):
    """A recipe that knows the names of its scores before the first evaluation."""

    def scores(self) -> Sequence[str] | None:
        """Return the names of the scores of `evaluate`, or None if they are not known yet."""


@dataclass(frozen=True)
class Result:
    """What a finished run leaves. what: a noun. path: where it is. words: of the command that tries it, or none.

    key: of the config of another training, which takes it.
    """

    what: str
    path: Path
    words: Sequence[str] = ()
    key: str = ""


@runtime_checkable
class LeavesResult(Protocol):
    """A recipe that can tell what a finished run leaves."""

    def result(self, out: Path) -> Result | None:
        """Return what `finish` has written into the folder of the run; None if it has written nothing."""


@runtime_checkable
class NamesInputs(Protocol):
    """A recipe of a video network that knows inputs which suit it."""

    def inputs(self, out: Path) -> Sequence[str]:
        """Return words of `longtake generate`: a prompt, and files that it writes into the folder of the run."""


@runtime_checkable
class SavesState(Protocol):
    """A recipe with state of its own beside the weights of its module."""

    def save_state(self, folder: Path) -> None:
        """Write the state into the folder of a checkpoint; every rank calls it."""

    def load_state(self, folder: Path) -> None:
        """Read the state from the folder of a checkpoint; every rank calls it."""
