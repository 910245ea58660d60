"""A recipe small enough to be followed by hand, and a rank of a run of several."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from longtake.train.loop import Settings, train


class Line:
    """Fits y = 3 x with a frozen and a trainable layer; the batch of a step depends on its chance alone."""

    def __init__(self, seed: int = 0):
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        self.module[0].requires_grad_(False)
        self.losses: list[float] = []
        self.finished = self.checked = 0

    def loss(self, step, rng):
        x = torch.randn(8, 16, generator=rng)
        loss = (self.module(x) - 3 * x).pow(2).mean()
        self.losses.append(loss.item())
        return loss

    def check(self, step, out):
        self.checked += 1
        return {"score": 1.0}

    def finish(self, out):
        self.finished += 1


def rank(number: int, world: int, folder: str) -> None:
    """Train as one of several processes, from weights that differ; write the final ones."""
    torch.set_num_threads(1)
    place, patience = f"file://{folder}/store", timedelta(minutes=2)
    dist.init_process_group("gloo", init_method=place, timeout=patience, rank=number, world_size=world)
    recipe = Line(seed=number)
    train(recipe, Settings(steps=5, lr=0.1, save=0), Path(folder) / "run", report=lambda line: None)
    torch.save({"weights": recipe.module.state_dict(), "losses": recipe.losses}, f"{folder}/{number}.pt")
    dist.destroy_process_group()
