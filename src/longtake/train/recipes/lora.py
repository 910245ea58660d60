"""Recipe `lora`: any recipe of a video network, frozen, with low-rank updates of its linear layers (Hu et al. 2021).

It writes a LoRA alone, in two layouts: lora.safetensors (diffusers) and the folder lora/ (PEFT). `longtake generate
--lora` takes either, with the model that the training started from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtake.models.lora.layers import inject, save
from longtake.train.inner_recipe import (
    dataset_of,
    description_of,
    frozen_with_init,
    is_uniform,
    lora_result,
    make_inner,
    scores_of,
)
from longtake.train.interfaces import Loss, Recipe, Result
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.toml_config import read_table
from longtake.train.weights.families import lora_targets, network_check

TINY_LR = 2e-2


@dataclass(frozen=True)
class LoraConfig:
    """Settings of a LoRA.

    recipe: a recipe of a video network; settings: its table. rank: of the update up @ down of a layer's weight.
    alpha: the update is scaled by alpha / rank (0: alpha = rank). targets: suffixes of the names of the layers that get one (none: attention and feed-forward, as
    the model family names them). seed: of the initial weights.
    """

    recipe: str = "diffusion_forcing"
    rank: int = 16
    alpha: float = 0.0
    targets: Sequence[str] = ()
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


CONFIG = LoraConfig


@dataclass(frozen=True)
class LoraRecipe:
    """A `Recipe`: another one, of whose network a LoRA alone is trained.

    init: the model or run that the network comes from, "" for a new network.
    """

    inner: Recipe
    init: str = ""

    @property
    def restores_frozen(self) -> bool:
        """Whether the network comes from a model, so that checkpoints need to hold only the LoRA."""
        return bool(self.init)

    @property
    def module(self) -> nn.Module:
        """The network with the LoRA."""
        return self.inner.module

    @property
    def uniform(self) -> bool:
        """Whether all batches make the same calls of the network."""
        return is_uniform(self.inner)

    def loss(self, step: int, generator: torch.Generator) -> Tensor | Loss:
        """Compute the loss of the inner recipe."""
        return self.inner.loss(step, generator)

    def dataset(self) -> Mapping[str, Any]:
        """Return facts about the data."""
        return dataset_of(self.inner)

    def frozen(self, init: bool = True) -> Mapping[str, Sequence[Path]]:
        """Return the files of the frozen weights, the network under the LoRA too."""
        return frozen_with_init(self.inner)

    def describe(self, step: int, generator: torch.Generator) -> str:
        """Describe a batch of the inner recipe."""
        return description_of(self.inner, step, generator)

    def scores(self) -> Sequence[str] | None:
        """Return the names of the scores of `evaluate`."""
        return scores_of(self.inner)

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Evaluate the network with the LoRA."""
        return self.inner.evaluate(step, out)

    def finish(self, out: Path) -> None:
        """Write lora.safetensors and the folder lora/."""
        save(self.module, out / "lora.safetensors")
        save(self.module, out / "lora")

    def result(self, out: Path) -> Result:
        """Return the LoRA."""
        return lora_result(self.inner, out, self.init)


def make(config: Mapping[str, Any], out: Path, recipes: Mapping[str, RecipeEntry]) -> LoraRecipe:
    """Make the recipe from its table and the run's folder. ConfigError if the inner one trains no video network."""
    settings = read_table(CONFIG, config, "lora")
    suits = lambda entry: entry.trains == "video network"
    with network_check(partial(lora_targets, chosen=settings.targets, table="lora")):
        inner = make_inner(recipes, settings.recipe, settings.settings, out, "lora", suits)
    targets = lora_targets(inner.module, settings.targets, "lora")
    inject(inner.module, settings.rank, settings.alpha or settings.rank, targets, seed=settings.seed)
    return LoraRecipe(inner, str(settings.settings.get("init", "")))


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    targets = ["to_q", "to_v", "ffn.net.2", "proj_out"]
    return {
        "recipe": "flow_matching", "rank": 4, "targets": targets,
        "settings": {**parts.video, "init": str(parts.init)},
    }  # fmt: skip
