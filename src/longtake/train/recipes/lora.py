"""Recipe `lora`: that of a video network, frozen, with low-rank changes beside its linear layers (Hu et al. 2021).

What is written is a LoRA alone, in the two layouts that others read: lora.safetensors (diffusers) and the folder lora/
(PEFT). `longtake generate --lora` takes either, over the model that the training started from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtake.models.lora import inject, save
from longtake.models.wan_lora import SVI_TARGETS
from longtake.train.config import read_table
from longtake.train.settings import DescribesBatch, HasData, NamesScores, ReadsFrozen, Recipe
from longtake.train.shards import Loss


@dataclass(frozen=True)
class LoraConfig:
    """recipe: flow, forcing, causal, i2v, distil or mixed, and settings: its table. rank, alpha: the change is
    alpha / rank * up @ down (alpha 0: as much as rank). targets: how the names of the layers end that get one. seed: of
    the first weights."""

    recipe: str = "forcing"
    rank: int = 16
    alpha: float = 0.0
    targets: Sequence[str] = SVI_TARGETS
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoraRecipe:
    """A `Recipe`: another one whose network has a LoRA beside it, which alone is trained.

    restores_frozen: the network comes from a model, so that checkpoints need only hold the LoRA.
    """

    inner: Recipe
    restores_frozen: bool = False

    @property
    def module(self) -> nn.Module:
        """See `Recipe`."""
        return self.inner.module

    @property
    def uniform(self) -> bool:
        """See `Recipe`."""
        return bool(getattr(self.inner, "uniform", False))

    def loss(self, step: int, rng: torch.Generator) -> Tensor | Loss:
        """See `Recipe`."""
        return self.inner.loss(step, rng)

    def dataset(self) -> Mapping[str, Any]:
        """See `HasData`."""
        return self.inner.dataset() if isinstance(self.inner, HasData) else {}

    def frozen(self, init: bool = True) -> Mapping[str, Sequence[Path]]:
        """See `ReadsFrozen`: the network under the LoRA too."""
        return self.inner.frozen(init=True) if isinstance(self.inner, ReadsFrozen) else {}

    def describe(self, step: int, rng: torch.Generator) -> str:
        """See `DescribesBatch`."""
        return self.inner.describe(step, rng) if isinstance(self.inner, DescribesBatch) else "a batch of the recipe"

    def scores(self) -> Sequence[str] | None:
        """See `NamesScores`."""
        return self.inner.scores() if isinstance(self.inner, NamesScores) else None

    def check(self, step: int, out: Path) -> dict[str, float]:
        """See `Recipe`."""
        return self.inner.check(step, out)

    def finish(self, out: Path) -> None:
        """Write lora.safetensors and the folder lora/."""
        save(self.module, out / "lora.safetensors")
        save(self.module, out / "lora")


def maker(recipes: Mapping[str, Callable[[Mapping[str, Any], Path], Recipe]]) -> Callable[..., LoraRecipe]:
    """The function that makes the recipe, given those of all video networks that it may be put on."""

    def make(config: Mapping[str, Any], out: Path) -> LoraRecipe:
        """The recipe of a run's table and folder. ValueError if it stands on one that trains no video network."""
        settings = read_table(LoraConfig, config, "lora")
        if settings.recipe not in recipes:
            raise ValueError(
                f"[lora] recipe is {settings.recipe!r}, but a LoRA is for a video network: it is one of "
                f"{', '.join(recipes)}"
            )
        inner = recipes[settings.recipe](settings.settings, out)
        inject(inner.module, settings.rank, settings.alpha or settings.rank, settings.targets, seed=settings.seed)
        return LoraRecipe(inner, restores_frozen=bool(settings.settings.get("init")))

    return make
