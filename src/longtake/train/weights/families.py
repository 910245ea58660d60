"""Model families that can be trained: lookups of the training hooks in the registry of families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import nn

from longtake.core.errors import ConfigError
from longtake.models.checkpoints import loading as weights
from longtake.models.family import TrainingHooks
from longtake.models.lora.layers import check_targets
from longtake.models.registry import FAMILIES


def trainable_families() -> list[str]:
    """Return the names of the families that can be trained."""
    return [name for name, family in FAMILIES.items() if family.has("training")]


def default_family(sigma_per: str = "frame") -> str:
    """Return the first family whose networks are trained with a sigma for each "frame", or for each "token"."""
    return next(name for name in trainable_families() if training_hooks(name).sigma_per == sigma_per)


def training_hooks(family: str) -> TrainingHooks:
    """Return what training needs of a family. ValueError if there is no such family or it cannot be trained."""
    if family not in trainable_families():
        raise ValueError(f"family is {family!r}: it must be one of {', '.join(trainable_families())}")
    return FAMILIES[family].get("training")


def hooks_of(network: nn.Module) -> TrainingHooks:
    """Return what training needs of the family of a network, by the class of its config."""
    every = map(training_hooks, trainable_families())
    return next(hooks for hooks in every if isinstance(network.config, hooks.transformer.config))


def load_vae(folder: Path, family: str = "", device: torch.device | str = "cpu") -> Any:
    """Load the VAE of a family ("": the default one) from a folder with config.json and safetensors, in float32."""
    part = training_hooks(family or default_family()).vae
    return weights.load(part.make, weights.configure(part.config, folder), folder, part.names, torch.float32, device)


# ---------------------------------------------------------------- LoRA targets
Check = Callable[[nn.Module], object]
_CHECK: ContextVar[Check] = ContextVar("network_check", default=lambda net: None)


@contextmanager
def network_check(check: Check) -> Iterator[None]:
    """Call `check` with every network that a recipe makes inside the block, before anything is encoded for it."""
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def check_network(net: nn.Module) -> None:
    """Call the check that is in force. Whoever makes a network to train calls this at once."""
    _CHECK.get()(net)


def lora_targets(net: nn.Module, chosen: Sequence[str], table: str) -> Sequence[str]:
    """Return the ends of the names of the layers that get a LoRA: the chosen ones, else those of the network's family.

    ConfigError, with the whole names of the layers, if no layer has such a name.
    """
    targets = chosen or hooks_of(net).lora_targets
    try:
        check_targets(net, targets)
    except ValueError as error:
        raise ConfigError(f"[{table}] targets: {error}") from error
    return targets
