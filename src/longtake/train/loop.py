"""The only optimiser loop: a recipe gives losses, the loop turns them into checkpoints.

Step n of rank r draws all its chance from (seed, n, r), so a resumed run repeats an uninterrupted one exactly. Under
torchrun every rank draws a batch of its own and the gradients are averaged; rank 0 writes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from longtake.train.optim import Kind, average, load_optimiser_state, make_optimisers, optimiser_state, schedule

KEEP = 2  # checkpoints on disk


@dataclass(frozen=True)
class Settings:
    """How to optimise. lr is the peak; it warms up over `warmup` steps and falls over the last `decay` of the run.

    save and check: steps between checkpoints and between validations (0: none but the last checkpoint).
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
    log: int = 20
    save: int = 200
    check: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; train for at least one")


class Recipe(Protocol):
    """What is trained, and on what. A recipe is made from its table of the config and the run's folder."""

    @property
    def module(self) -> nn.Module:
        """What is trained: only its weights with requires_grad."""

    def loss(self, step: int, rng: torch.Generator) -> Tensor:
        """The loss of a step; all chance comes from rng. () with gradients."""

    def check(self, step: int, out: Path) -> dict[str, float]:
        """Scores of the module as it is now (the loop has put the averaged weights in); files may go to out."""

    def finish(self, out: Path) -> None:
        """Training is done (averaged weights are in): write what the next stage needs."""


MakeRecipe = Callable[[Mapping[str, Any], Path], Recipe]


@dataclass
class Run:
    """A training run in flight."""

    recipe: Recipe
    settings: Settings
    out: Path
    optimisers: list[torch.optim.Optimizer]
    ema: dict[str, Tensor]
    step: int = 0
    begun: float = field(default_factory=time.monotonic)

    def advance(self) -> float:
        """One step. The loss before it."""
        factor = schedule(self.step, self.settings.steps, self.settings.warmup, self.settings.decay)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = self.settings.lr * factor
        loss = self.recipe.loss(self.step, step_rng(self.settings.seed, self.step, *ranks()))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss of step {self.step} is {loss.item()}: lower lr (now {self.settings.lr})"
            )
        loss.backward()
        trained = [p for p in self.recipe.module.parameters() if p.requires_grad]
        share_gradients(trained)
        nn.utils.clip_grad_norm_(trained, self.settings.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        average(self.ema, self.recipe.module, self.step, self.settings.ema)
        self.step += 1
        return loss.item()

    def check(self) -> dict[str, float]:
        """The recipe's scores with the averaged weights."""
        with averaged(self.recipe.module, self.ema), torch.no_grad():
            return self.recipe.check(self.step, self.out)


def run(recipe: str, config: Mapping[str, Any], out: Path, report: Callable[[str], None] = print) -> Path:
    """Train a registered recipe, or go on where the folder's newest checkpoint stopped. The folder.

    config has a table [loop] (see Settings) and a table named after the recipe. Writes config.json, log.jsonl and
    step-000000/ checkpoints into out, and calls report with progress lines.
    """
    from longtake.train.recipes import RECIPES

    if recipe not in RECIPES:
        raise KeyError(f"no recipe {recipe!r}; there are: {', '.join(RECIPES)}")
    join_ranks()
    out.mkdir(parents=True, exist_ok=True)
    settings = read_settings(config)
    torch.manual_seed(settings.seed)  # the recipe draws the first weights
    say = report if not ranks()[0] else lambda line: None
    return train(RECIPES[recipe](config.get(recipe, {}), out), settings, out, say, dict(config))


def read_settings(config: Mapping[str, Any]) -> Settings:
    """The table [loop] of a config. ValueError says what is wrong with it."""
    try:
        return Settings(**config["loop"])
    except KeyError as error:
        raise ValueError("the config has no table [loop]: give one with at least `steps`") from error
    except TypeError as error:
        raise ValueError(f"[loop] of the config: {error}") from error


def train(
    recipe: Recipe, settings: Settings, out: Path, report: Callable[[str], None] = print, config: Any = None
) -> Path:
    """See `run`; for a recipe already made."""
    out.mkdir(parents=True, exist_ok=True)
    if not ranks()[0]:
        write_json(out / "config.json", config or {"loop": asdict(settings)})
    module = recipe.module
    share_start(module)
    ema = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    run = Run(recipe, settings, out, make_optimisers(module, *_choices(settings)), ema)
    if (newest := newest_checkpoint(out)) is not None:
        load_checkpoint(run, newest)
        report(f"going on from step {run.step}")
    losses: list[float] = []
    while run.step < settings.steps:
        losses.append(run.advance())
        _keep_books(run, losses, report)
    if not ranks()[0]:
        with averaged(module, run.ema), torch.no_grad():
            recipe.finish(out)
    return out


def _choices(settings: Settings) -> tuple[Kind, float, float]:
    return settings.optimiser, settings.lr, settings.weight_decay


def _keep_books(run: Run, losses: list[float], report: Callable[[str], None]) -> None:
    """Log, check and save where the settings say so. losses since the last log line is emptied when logged."""
    settings, last = run.settings, run.step == run.settings.steps
    if ranks()[0]:
        losses.clear()
        return
    if run.step % settings.log == 0 or last:
        line = {"step": run.step, "loss": round(sum(losses) / len(losses), 6)}
        line["seconds"] = round(time.monotonic() - run.begun, 1)
        _log(run.out, line)
        report(f"step {run.step}/{settings.steps}  loss {line['loss']:.4f}  {line['seconds']:.0f} s")
        losses.clear()
    if (settings.save and run.step % settings.save == 0) or last:
        save_checkpoint(run)
    if settings.check and (run.step % settings.check == 0 or last):
        scores = run.check()
        _log(run.out, {"step": run.step, **scores})
        report(f"step {run.step}  " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))


def _log(out: Path, line: Mapping[str, Any]) -> None:
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def join_ranks() -> None:
    """Join the other processes, if torchrun started this one (it says so in the environment)."""
    if dist.is_torchelastic_launched() and not dist.is_initialized():
        dist.init_process_group("gloo")


def ranks() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def share_start(module: nn.Module) -> None:
    """Give every rank the weights of rank 0: gradients can only be averaged over equal networks."""
    if ranks()[1] > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def share_gradients(trained: list[nn.Parameter]) -> None:
    """Average gradients over all ranks, in one message."""
    _, world = ranks()
    if world == 1:
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
    flat = torch.cat([grad.flatten() for grad in grads]) / world
    dist.all_reduce(flat)
    for parameter, part in zip(trained, flat.split([grad.numel() for grad in grads])):
        parameter.grad = part.view_as(parameter)


def step_rng(seed: int, step: int, rank: int = 0, world: int = 1) -> torch.Generator:
    """The source of all chance of one step on one rank."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step * world + rank) % (1 << 62))


class averaged:
    """Puts the averaged weights into a module for a while."""

    def __init__(self, module: nn.Module, ema: Mapping[str, Tensor]):
        self.module, self.ema = module, ema

    def __enter__(self) -> None:
        self.own = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        self.module.load_state_dict(self.ema)

    def __exit__(self, *problem: object) -> None:
        self.module.load_state_dict(self.own)


# ---------------------------------------------------------------- checkpoints
def save_checkpoint(run: Run) -> Path:
    """Write step-000000/ in one piece: weights, averaged weights, optimiser memory, step. Older ones go."""
    folder = run.out / f"step-{run.step:06d}"
    draft = folder.with_suffix(".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    save_file({k: v.clone() for k, v in run.recipe.module.state_dict().items()}, draft / "model.safetensors")
    save_file(run.ema, draft / "ema.safetensors")
    save_file(optimiser_state(run.recipe.module, run.optimisers), draft / "optimiser.safetensors")
    write_json(draft / "state.json", {"step": run.step, "settings": asdict(run.settings)})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(draft, folder)
    for old in sorted(run.out.glob("step-??????"))[:-KEEP]:
        shutil.rmtree(old)
    return folder


def newest_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    return max(out.glob("step-??????"), default=None)


def load_checkpoint(run: Run, folder: Path) -> None:
    """Put a run back to where it was when the checkpoint was written."""
    run.recipe.module.load_state_dict(load_file(folder / "model.safetensors"))
    run.ema = load_file(folder / "ema.safetensors")
    load_optimiser_state(run.recipe.module, run.optimisers, load_file(folder / "optimiser.safetensors"))
    run.step = json.loads((folder / "state.json").read_text())["step"]


def write_json(path: Path, value: Any) -> None:
    """Write a file in one piece."""
    draft = path.with_suffix(path.suffix + ".part")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(draft, path)


__all__ = ["Recipe", "Settings", "newest_checkpoint", "run", "train"]
