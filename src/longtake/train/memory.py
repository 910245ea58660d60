"""Replay memory: velocity errors that a network made, kept by noise level, in bounded memory, exact through a resume.

One entry is the residual r = v_hat - v of a video and the level s of its frames. Both errors of error recycling follow
from it, (1 - s) r of the noise and -s r of the video (Stable Video Infinity, eq. 6), so each is kept once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from longtake.noise import ramp
from longtake.train.checkpoint import CheckpointError, replaced

Replace = Literal["nearest", "random", "fifo"]
GIB = 1 << 30


@dataclass(frozen=True)
class Residual:
    """What the network got wrong: velocity (C F h w), and the level (F,) of each frame."""

    velocity: Tensor
    level: Tensor

    @property
    def video(self) -> Tensor:
        """The error at the clean end of the path: x_hat - x = -s r."""
        return -self.level[:, None, None] * self.velocity

    @property
    def noise(self) -> Tensor:
        """The error at the noisy end: n_hat - n = (1 - s) r."""
        return (1 - self.level[:, None, None]) * self.velocity


class Slots:
    """Residuals in numbered slots: bfloat16, the first ones in memory, those beyond `ram` bytes in a file."""

    def __init__(self, ram: int, file: Path | None):
        self.ram, self.file = ram, file
        self.shape: torch.Size | None = None
        self.near: dict[int, Tensor] = {}
        self.far: np.memmap | None = None
        self.levels: dict[int, Tensor] = {}

    @property
    def size(self) -> int:
        """Bytes of an entry."""
        return 2 * math.prod(self.shape or ())

    def put(self, slot: int, entry: Residual) -> None:
        """Fill a slot. ValueError if the entry has another shape than the first one had."""
        if self.shape is None:
            self.shape = entry.velocity.shape
        if entry.velocity.shape != self.shape:
            raise ValueError(
                f"errors of {tuple(entry.velocity.shape)} and of {tuple(self.shape)} do not fit one memory: train on "
                "videos of one length"
            )
        self.levels[slot] = entry.level.float().cpu().clone()
        value = entry.velocity.detach().to("cpu", torch.bfloat16).contiguous()
        if slot < self._held:
            self.near[slot] = value.clone()
        else:
            self._row(slot)[:] = value.view(torch.uint16).numpy().reshape(-1)

    def get(self, slot: int) -> Residual:
        """What is in a slot, in float32."""
        assert self.shape is not None
        if slot in self.near:
            value = self.near[slot]
        else:
            value = torch.from_numpy(self._row(slot).copy()).view(torch.bfloat16).reshape(self.shape)
        return Residual(value.float(), self.levels[slot])

    @property
    def _held(self) -> int:
        return self.ram // max(self.size, 1) if self.file is not None else 1 << 62

    def _row(self, slot: int) -> Any:
        """The place of a slot in the file, which grows as it is needed."""
        assert self.file is not None and self.shape is not None
        width, row = self.size // 2, slot - self._held
        if self.far is None or len(self.far) < (row + 1) * width:
            rows = max(16, 2 * row + 1)
            self.far = None
            with open(self.file, "ab") as file:
                file.truncate(2 * rows * width)
            self.far = np.memmap(self.file, np.uint16, "r+", shape=(rows * width,))
        return self.far[row * width : (row + 1) * width]


class Memory:
    """Residuals in buckets over noise levels, at most `capacity` in each.

    buckets, shift: their centres are the levels of `buckets` inference steps. full: what a new entry replaces: the
    "nearest" one (least L2 distance), a "random" one, or the oldest ("fifo"). ram: GiB of memory; what is more goes
    to a file in `folder` (None: nothing does).
    """

    def __init__(
        self, buckets: int = 50, shift: float = 5.0, capacity: int = 500, full: Replace = "nearest", ram: float = 8.0,
        folder: Path | None = None, rank: int = 0,
    ):  # fmt: skip
        if full not in get_args(Replace):
            raise ValueError(f"a full bucket replaces its {', '.join(get_args(Replace))} entry, not {full!r}")
        if buckets < 1 or capacity < 1 or ram < 0:
            raise ValueError("a memory needs at least one bucket, one entry in each, and no negative size")
        self.centres, self.capacity, self.full, self.rank = ramp(buckets, shift)[:-1], capacity, full, rank
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.slots = Slots(round(ram * GIB), folder / f"memory-{rank}.spill" if folder else None)
        self.buckets: list[list[int]] = [[] for _ in range(buckets)]  # slots, oldest first

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    def bucket(self, level: float) -> int:
        """The bucket whose centre is nearest to a level."""
        return int((self.centres - min(level, 0.999)).abs().argmin())

    def push(self, entry: Residual, rng: torch.Generator) -> None:
        """Keep an entry in the bucket of its highest level."""
        bucket = self.buckets[self.bucket(float(entry.level.max()))]
        if len(bucket) < self.capacity:
            slot = len(self)
        else:
            slot = bucket.pop(self._replaced(bucket, entry, rng))
        self.slots.put(slot, entry)
        bucket.append(slot)

    def _replaced(self, bucket: list[int], entry: Residual, rng: torch.Generator) -> int:
        if self.full == "fifo":
            return 0
        if self.full == "random":
            return int(torch.randint(len(bucket), (), generator=rng))
        new = entry.velocity.detach().to("cpu", torch.bfloat16).float()
        return int(torch.stack([(self.slots.get(slot).velocity - new).norm() for slot in bucket]).argmin())

    def draw(self, rng: torch.Generator, level: float | None = None) -> Residual | None:
        """A random entry of the bucket of a level, or of all (None); None if there is none."""
        slots = [s for bucket in self.buckets for s in bucket] if level is None else self.buckets[self.bucket(level)]
        return self.slots.get(slots[int(torch.randint(len(slots), (), generator=rng))]) if slots else None

    # ------------------------------------------------------------ with the checkpoint
    def save(self, folder: Path) -> None:
        """Write everything into a checkpoint's folder, an entry at a time: this rank's own files."""
        order = [slot for bucket in self.buckets for slot in bucket]
        about = {
            "shape": list(self.slots.shape or ()),
            "buckets": self.buckets,
            "levels": [self.slots.levels[slot].tolist() for slot in order],
        }
        with replaced(self._data(folder)) as draft, open(draft, "wb") as file:
            for slot in order:
                file.write(self.slots.get(slot).velocity.bfloat16().view(torch.uint16).numpy().tobytes())
        with replaced(self._about(folder)) as draft:
            draft.write_text(json.dumps(about))

    def load(self, folder: Path) -> None:
        """Undo `save`. CheckpointError if this rank's files are not there, or are torn."""
        path = self._data(folder)
        try:
            about = json.loads(self._about(folder).read_text())
            self.buckets = [list(bucket) for bucket in about["buckets"]]
            self.slots.shape = torch.Size(about["shape"]) if about["shape"] else None
            order = [slot for bucket in self.buckets for slot in bucket]
            if len(self.buckets) != len(self.centres) or path.stat().st_size != len(order) * self.slots.size:
                raise ValueError("it is not whole, or has other buckets")
            for slot, level, value in zip(order, about["levels"], self._read(path)):
                self.slots.put(slot, Residual(value, torch.tensor(level)))
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"the replay memory of rank {self.rank} in {folder} cannot be read: {error}"
            ) from error

    def _read(self, path: Path) -> Iterator[Tensor]:
        with open(path, "rb") as file:
            while raw := file.read(self.slots.size):
                values = torch.frombuffer(bytearray(raw), dtype=torch.uint16).view(torch.bfloat16)
                yield values.reshape(self.slots.shape or ())

    def _data(self, folder: Path) -> Path:
        return folder / f"memory-{self.rank}.bin"

    def _about(self, folder: Path) -> Path:
        return folder / f"memory-{self.rank}.json"


def shared(entries: list[Residual], gather: Callable[[Tensor], list[Tensor]]) -> list[Residual]:
    """The entries of all ranks, in their order. gather: a tensor of this rank -> those of all."""
    found: list[Residual] = []
    for entry in entries:
        velocities, levels = gather(entry.velocity.contiguous()), gather(entry.level.contiguous())
        found += [Residual(v, s) for v, s in zip(velocities, levels)]
    return found
