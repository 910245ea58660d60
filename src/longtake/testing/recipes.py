"""The contract of a training recipe: its loss falls, by trainable weights alone, and the same seed gives the same loss.

Each check takes a registry line and the recipe's own small table. `make_parts` trains the small text encoder, VAEs and clips
that such a table may use (`TinyParts`); a recipe of another package can be checked in the same way:

    parts = make_parts(tmp_path)
    check_loss_falls("mine", entry, parts, tmp_path / "run")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.core.flat_config import to_flat
from longtake.models.ltx import vae_config as ltx_vae_config
from longtake.models.ltx.config import tiny as tiny_ltx
from longtake.pocket.clips import Source
from longtake.train.datasets.bucket_clips import fill_clips
from longtake.train.datasets.buckets import make_buckets
from longtake.train.datasets.pocket import fill_cache
from longtake.train.interfaces import Loss, Recipe
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.recipes.registry import RECIPES

SOURCE = Source(frames=41, switch=0.5, seed=3)
STEPS, RATE = 30, 5e-3
FALLS_TO = 0.93  # the loss after STEPS steps, relative to the loss before


@dataclass(frozen=True)
class TinyParts:
    """Small trained parts for the tables of the contract tests, as folders.

    text: of a text encoder. vae, latents: of a Wan VAE and of eight encoded clips. ltx_vae, ltx_clips: likewise for LTX.
    init: a run of a video network that has learnt to follow captions.
    """

    text: Path
    vae: Path
    latents: Path
    ltx_vae: Path
    ltx_clips: Path
    init: Path

    @property
    def network(self) -> dict[str, Any]:
        """The config of a small Wan network."""
        return dict(
            num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16,
            ffn_dim=32, num_layers=1, max_latent_frames=9,
        )  # fmt: skip

    @property
    def ltx_network(self) -> dict[str, Any]:
        """The config of a small LTX network."""
        return asdict(tiny_ltx(num_layers=1, caption_channels=16))

    @property
    def video(self) -> dict[str, Any]:
        """Settings of a video recipe on the eight clips, without a network."""
        return dict(
            text=str(self.text), data=str(self.latents), vae=str(self.vae), frames=54, eval_prompts=0,
            length_schedule=((1.0, (9,)),),
        )  # fmt: skip


def make_parts(folder: Path) -> TinyParts:
    """Train the parts: text encoder and VAEs for one step, the network for STEPS. It takes some seconds."""
    parts = TinyParts(
        folder / "text", folder / "run" / "vae", folder / "latents", folder / "ltx" / "vae", folder / "clips",
        folder / "init",
    )  # fmt: skip
    few = LoopConfig.of(steps=1, lr=3e-3, warmup=3, save_every=0, log_every=30)
    torch.manual_seed(0)
    _trained("text_encoder", RECIPES["text_encoder"].part("tiny")(parts), folder / "text", few)
    vae = _trained("vae", RECIPES["vae"].part("tiny")(parts), folder / "run", few)
    fill_cache(parts.latents, SOURCE, 8, vae.module.encode, report=_quiet)  # type: ignore[arg-type,operator]
    table = {"family": "ltx", "network": to_flat(ltx_vae_config.tiny()), "frames": 18, "lengths": (1, 9)}
    vae = _trained("vae", {**table, "eval_clips": 1, "statistics_clips": 2}, folder / "ltx", few)
    buckets = make_buckets((1.0, 1.5), ((32, 32), (24, 40)), 8, 8, 24.0)
    fill_clips(parts.ltx_clips, buckets, 8, 0, vae.module.encode, report=_quiet)  # type: ignore[arg-type,operator]
    torch.manual_seed(0)
    _trained("diffusion_forcing", RECIPES["diffusion_forcing"].part("tiny")(parts), parts.init, short_loop(RATE))
    return parts


def short_loop(lr: float) -> LoopConfig:
    """Return the loop of the contract tests."""
    return LoopConfig.of(steps=STEPS, lr=lr, warmup=3, save_every=0, log_every=30)


def made(entry: RecipeEntry, parts: TinyParts, out: Path) -> Recipe:
    """Make a recipe from its small table."""
    return entry.make(entry.part("tiny")(parts), out, RECIPES)


def mean_loss(loss: Tensor | Loss) -> Tensor:
    """Return the loss of a batch as a mean, ()."""
    return loss.total / loss.weight if isinstance(loss, Loss) else loss


def check_loss_falls(name: str, entry: RecipeEntry, parts: TinyParts, out: Path) -> None:
    """Assert that the loss of a fixed batch falls in 30 steps."""
    torch.manual_seed(0)
    recipe = made(entry, parts, out)
    before = _loss_of(recipe, STEPS - 1, 5)
    train(recipe, short_loop(entry.part("TINY_LR", RATE)), out, _quiet, {name: entry.part("tiny")(parts)})
    after = _loss_of(recipe, STEPS - 1, 5)
    assert after < FALLS_TO * before, f"the loss of {name} was {before:.4f}, and {after:.4f} after {STEPS} steps"


def check_gradients(name: str, entry: RecipeEntry, parts: TinyParts, out: Path) -> None:
    """Assert that only trainable weights get gradients: a frozen one gets none, and no text encoder does."""
    recipe = made(entry, parts, out)
    first, *others = (weight for weight in recipe.module.parameters() if weight.requires_grad)
    first.requires_grad_(False)
    mean_loss(recipe.loss(STEPS - 1, torch.Generator().manual_seed(1))).backward()
    assert first.grad is None, f"{name} gives a gradient to a frozen weight"
    assert any(other.grad is not None for other in others), f"{name} gives no gradient to its trainable weights"
    if text := getattr(getattr(recipe, "video", recipe), "text", None):
        assert all(weight.grad is None for weight in text.encoder.parameters()), f"{name} trains its text encoder"


def check_same_seed(name: str, entry: RecipeEntry, parts: TinyParts, out: Path) -> None:
    """Assert that the same generator gives the same loss, bit for bit, and another generator another loss."""
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        recipe = made(entry, parts, out)
        if isinstance(last := getattr(recipe.module, "proj_out", None), torch.nn.Linear):
            torch.nn.init.normal_(last.weight)  # a new network predicts zeros
        losses.append(_loss_of(recipe, 3, seed))
    assert losses[0] == losses[1], f"the same seed gives {name} the losses {losses[0]} and {losses[1]}"
    assert losses[0] != losses[2], f"the loss of {name} does not depend on the generator"


def _loss_of(recipe: Recipe, step: int, seed: int) -> float:
    with torch.no_grad():
        return float(mean_loss(recipe.loss(step, torch.Generator().manual_seed(seed))))


def _trained(name: str, table: Mapping[str, Any], out: Path, loop: LoopConfig) -> Recipe:
    recipe = RECIPES[name].make(table, out, RECIPES)
    train(recipe, loop, out, _quiet, {name: table})
    return recipe


def _quiet(line: str) -> None:
    pass
