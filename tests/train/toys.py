"""Recipes small enough to be followed by hand, and the ranks of a run of several."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from longtake.core.errors import ConfigError
from longtake.models.wan.config import tiny
from longtake.models.wan.transformer import WanTransformer
from longtake.train.interfaces import Loss
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.run import checkpoint as checkpoints


class Line:
    """Fits y = 3 x with a frozen and a trainable layer; the batch of a step depends on its generator alone."""

    def __init__(self, seed: int = 0):
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        self.module[0].requires_grad_(False)
        self.losses: list[float] = []
        self.finished = self.evaluated = 0

    def loss(self, step, rng):
        x = torch.randn(8, 16, generator=rng)
        loss = (self.module(x) - 3 * x).pow(2).mean()
        self.losses.append(loss.item())
        return loss

    def evaluate(self, step, out):
        self.evaluated += 1
        return {"score": 1.0}

    def finish(self, out):
        self.finished += 1


class Layer(nn.Module):
    """A residual layer with a weight that does not divide over two ranks, and one that is frozen."""

    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale = nn.Parameter(torch.ones(1, width))
        self.shift = nn.Parameter(torch.randn(width), requires_grad=False)

    def forward(self, x):
        return x + self.scale * self.down(nn.functional.gelu(self.up(x + self.shift)))


class Tower(nn.Module):
    """A network of layers that can recompute them."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.checkpointing = False
        self.recomputed = 0
        self.layers = nn.ModuleList(Layer(width) for _ in range(2))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                self.recomputed += 1
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        return self.head(x)


class Weighted:
    """Batches of 2 to 6 items that count by their size; `stop` ends the run before that step, `bad` steps have a NaN loss."""

    uniform = True

    def __init__(self, seed: int = 0, stop: int = -1, bad: tuple[int, ...] = ()):
        torch.manual_seed(seed)
        self.module, self.stop, self.bad = Tower(), stop, bad
        self.scores: list[float] = []

    def batch(self, rng):
        return torch.randn(int(torch.randint(2, 7, (), generator=rng)), 16, generator=rng)

    def loss(self, step, rng):
        if step == self.stop:
            raise KeyboardInterrupt
        x = self.batch(rng)
        error = (self.module(x) - x[:, :3].roll(1, 1)).pow(2).sum(1)
        return Loss(error.sum() * (torch.nan if step in self.bad else 1), len(x))

    def describe(self, step, rng):
        return f"{len(self.batch(rng))} items"

    def evaluate(self, step, out):
        self.scores.append(self.module(torch.ones(1, 16)).sum().item())
        return {"score": self.scores[-1]}

    def finish(self, out):
        self.evaluate(0, out)
        save_file(self.module.state_dict(), out / "finished.safetensors")


class Prompted(Weighted):
    """A small Wan network conditioned on two prompts, with a LoRA-like mixture of frozen weights."""

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.module = WanTransformer(tiny())
        self.module.blocks[0].ffn.requires_grad_(False)

    def loss(self, step, rng):
        x, text = (torch.randn(shape, generator=rng) for shape in ((1, 4, 3, 4, 4), (2, 1, 5, 10)))
        memory = [self.module.text_kv(each) for each in text]
        velocity = self.module(x, torch.rand(1, 3, generator=rng), memory, scene=[0, 1, 1])
        return (velocity - x).pow(2).mean()

    def evaluate(self, step, out):
        return {}

    def finish(self, out):
        pass


class Uneven(Prompted):
    """Its batches differ in how often they call the network, and in how many prompts they have."""

    uniform = False

    def loss(self, step, rng):
        prompts = int(torch.randint(1, 4, (), generator=rng))
        x, text = (torch.randn(shape, generator=rng) for shape in ((1, 4, 3, 4, 4), (prompts, 1, 5, 10)))
        memory = [self.module.text_kv(each) for each in text]
        scene = [min(frame, prompts - 1) for frame in range(3)]
        if prompts == 2:
            with torch.no_grad():
                x = x + 0.1 * self.module(x, torch.ones(1, 3), memory, scene=scene)
        velocity = self.module(x, torch.rand(1, 3, generator=rng), memory, scene=scene)
        return (velocity - x).pow(2).mean()


def quiet(line: str) -> None:
    """Report nothing."""


def curve(folder: Path) -> list[float]:
    """The losses of a run that logs every step."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def in_two(work: Callable[[int, int, str], None], folder: Path) -> None:
    """Call work(number, 2, folder) in this process as number 0 and in another as 1; neither outlives a failure.

    Skips the test where processes cannot meet: without a loopback interface.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
    except OSError as error:
        pytest.skip(f"two processes cannot meet here: {error}")
    other = mp.get_context("spawn").Process(target=second_rank, args=(work, str(folder)), daemon=True)
    other.start()
    try:
        work(0, 2, str(folder))
        other.join(300)
    finally:
        other.kill()
        if dist.is_initialized():
            dist.destroy_process_group()
    assert other.exitcode == 0


def second_rank(work: Callable[[int, int, str], None], folder: str) -> None:
    """Work as rank 1 and end as the command line ends a rank: gloo's threads can abort the interpreter's teardown."""
    work(1, 2, folder)
    os._exit(0)


def join(number: int, world: int, folder: Path) -> None:
    """Become one of several processes that find each other through a file."""
    torch.set_num_threads(1)
    place, patience = f"file://{folder}/store", timedelta(minutes=5)
    dist.init_process_group("gloo", init_method=place, timeout=patience, rank=number, world_size=world)


def different_weights(number: int, folder: Path) -> None:
    """Train from weights that differ between the ranks; write the final ones."""
    recipe = Line(seed=number)
    train(recipe, LoopConfig.of(steps=5, lr=0.1, save_every=0), folder / "run", quiet)
    torch.save({"weights": recipe.module.state_dict(), "losses": recipe.losses}, folder / f"{number}.pt")


def sharded_rank(number: int, world: int, folder: str) -> None:
    """Make every training of several processes that the tests inspect, in one go: starting processes is slow."""
    out = Path(folder)
    join(number, world, out)
    for kind in ("adamw", "muon"):
        for shard in ("none", "zero2", "zero3"):
            settings = TWO.with_changes(optimiser=kind, shard=shard)
            train(Weighted(seed=number), settings, out / f"{kind}-{shard}", quiet)
    for shard in ("none", "zero3"):
        settings = TWO.with_changes(shard=shard)
        with contextlib.suppress(KeyboardInterrupt):
            train(Weighted(seed=number, stop=6), settings, out / f"stopped-{shard}", quiet)
        dist.barrier()
        if not number:
            shutil.copytree(out / f"stopped-{shard}", out / f"copy-{shard}")
        dist.barrier()
        train(Weighted(seed=7), settings, out / f"stopped-{shard}", quiet)
    train(Weighted(seed=7), TWO.with_changes(shard="zero2"), out / "copy-none", quiet)
    bf16 = TWO.with_changes(shard="zero3", dtype="bf16", checkpointing=True, eval_every=5)
    train(recipe := Weighted(), bf16, out / "bf16", quiet)
    for shard in ("zero2", "zero3"):
        settings = TWO.with_changes(shard=shard, checkpointing=True, steps=4)
        train(Prompted(number), settings, out / f"prompted-{shard}", quiet)
    train(again := Weighted(seed=7), TWO.with_changes(shard="zero3"), out / "adamw-zero3", quiet)  # only finishes
    assert len(again.scores) == 1 - number
    train(Uneven(number), TWO.with_changes(shard="zero2", steps=4), out / "uneven", quiet)
    with contextlib.suppress(ConfigError):
        train(Uneven(number), TWO.with_changes(shard="zero3"), out / "refused", quiet)
    train(Weighted(bad=(3,)), TWO.with_changes(shard="zero3", steps=5), out / "bad", quiet)
    full_disk(number, out / "full")
    different_weights(number, out)
    share_errors(number, out)
    (out / f"scores-{number}.json").write_text(json.dumps(recipe.scores))
    dist.destroy_process_group()


def full_disk(number: int, out: Path) -> None:
    """A run whose second checkpoint finds no room, on rank 1 alone; both say so."""
    settings, write, calls = TWO.with_changes(shard="zero3"), checkpoints.write_shards, []

    def no_room(folder, tensors):
        calls.append(folder)
        if number == 1 and len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, tensors)

    checkpoints.write_shards = no_room
    try:
        train(Weighted(), settings, out, quiet)
    except checkpoints.CheckpointError as error:
        (out / f"error-{number}").write_text(str(error))
    checkpoints.write_shards = write


TWO = LoopConfig.of(steps=10, lr=0.02, warmup=2, save_every=4, log_every=1, ema=0.9, grad_clip=0.5)


def share_errors(number: int, out: Path) -> None:
    """Make three clean batches of error recycling on each rank, two of them shared; write the sigmas that are stored."""
    from tests.train.recipes.test_error_recycling import recipe, rng

    bank = dict(clean_update_prob=1.0, capacity=100, buckets=1, warmup=2)
    made = recipe(out / f"errors-{number}", clean_prob=1.0, **bank)
    for step in range(3):
        made.loss(step, rng(10 * step + number))
    sigmas = [float(made.bank.slots.get(slot).sigma[0]) for slot in made.bank.buckets[0]]
    torch.save(sigmas, out / f"sigmas-{number}.pt")
