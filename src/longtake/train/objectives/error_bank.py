"""Error bank: velocity errors of a network, kept by sigma in bounded memory and restored exactly on resume.

One entry is the velocity error r = v_hat - v of a video and the sigma s of its frames. Both errors of error recycling
follow from it, (1 - s) r of the noise and -s r of the video (Stable Video Infinity, eq. 6), so each is stored once.
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

from longtake.core.sigmas import sigma_schedule
from longtake.train.run.checkpoint import CheckpointError, replaced

Replacement = Literal["nearest", "random", "fifo"]
GIB = 1 << 30


@dataclass(frozen=True)
class VelocityError:
    """The error of one prediction. velocity: (C, F, h, w); sigma: (F,), of each frame."""

    velocity: Tensor
    sigma: Tensor

    @property
    def video(self) -> Tensor:
        """The error at the clean end of the path: x_hat - x = -s r."""
        return -self.sigma[:, None, None] * self.velocity

    @property
    def noise(self) -> Tensor:
        """The error at the noisy end: n_hat - n = (1 - s) r."""
        return (1 - self.sigma[:, None, None]) * self.velocity


class ErrorStorage:
    """Errors in numbered slots, in bfloat16: the first ones in memory, those beyond `ram` bytes in a file."""

    def __init__(self, ram: int, file: Path | None):
        self.ram, self.file = ram, file
        self.shape: torch.Size | None = None
        self.in_memory: dict[int, Tensor] = {}
        self.on_disk: np.memmap | None = None
        self.sigmas: dict[int, Tensor] = {}

    @property
    def size(self) -> int:
        """Bytes of one entry."""
        return 2 * math.prod(self.shape or ())

    def put(self, slot: int, entry: VelocityError) -> None:
        """Store an entry in a slot. ValueError if its shape differs from the first entry's."""
        if self.shape is None:
            self.shape = entry.velocity.shape
        if entry.velocity.shape != self.shape:
            raise ValueError(
                f"an error bank holds errors of one shape, not {tuple(entry.velocity.shape)} and {tuple(self.shape)}: train "
                "on videos of one length"
            )
        self.sigmas[slot] = entry.sigma.float().cpu().clone()
        value = entry.velocity.detach().to("cpu", torch.bfloat16).contiguous()
        if slot < self._held:
            self.in_memory[slot] = value.clone()
        else:
            self._row(slot)[:] = value.view(torch.uint16).numpy().reshape(-1)

    def get(self, slot: int) -> VelocityError:
        """Return the entry of a slot, in float32."""
        assert self.shape is not None
        if slot in self.in_memory:
            value = self.in_memory[slot]
        else:
            value = torch.from_numpy(self._row(slot).copy()).view(torch.bfloat16).reshape(self.shape)
        return VelocityError(value.float(), self.sigmas[slot])

    @property
    def _held(self) -> int:
        return self.ram // max(self.size, 1) if self.file is not None else 1 << 62

    def _row(self, slot: int) -> Any:
        """Return the row of a slot in the file, which grows when needed."""
        assert self.file is not None and self.shape is not None
        width, row = self.size // 2, slot - self._held
        if self.on_disk is None or len(self.on_disk) < (row + 1) * width:
            rows = max(16, 2 * row + 1)
            self.on_disk = None
            with open(self.file, "ab") as file:
                file.truncate(2 * rows * width)
            self.on_disk = np.memmap(self.file, np.uint16, "r+", shape=(rows * width,))
        return self.on_disk[row * width : (row + 1) * width]


class ErrorBank:
    """Errors in buckets over sigma, at most `capacity` in each.

    buckets, shift: the centres are the sigmas of `buckets` inference steps. replacement: which entry of a full bucket a
    new one replaces: the "nearest" (least L2 distance), a "random" one, or the oldest ("fifo"). ram_gib: memory limit;
    further entries go to a file in `folder` (None: all stay in memory).
    """

    def __init__(
        self, buckets: int = 50, shift: float = 5.0, capacity: int = 500, replacement: Replacement = "nearest",
        ram_gib: float = 8.0, folder: Path | None = None, rank: int = 0,
    ):  # fmt: skip
        if replacement not in get_args(Replacement):
            raise ValueError(f"replacement is {replacement!r}; it is one of {', '.join(get_args(Replacement))}")
        if buckets < 1 or capacity < 1 or ram_gib < 0:
            raise ValueError("buckets and capacity are at least 1, and ram_gib is not negative")
        self.centres, self.capacity, self.replacement = sigma_schedule(buckets, shift)[:-1], capacity, replacement
        self.rank = rank
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.slots = ErrorStorage(round(ram_gib * GIB), folder / f"errors-{rank}.spill" if folder else None)
        self.buckets: list[list[int]] = [[] for _ in range(buckets)]  # slots, oldest first

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    def bucket(self, sigma: float) -> int:
        """Return the bucket whose centre is nearest to a sigma."""
        return int((self.centres - min(sigma, 0.999)).abs().argmin())

    def push(self, entry: VelocityError, generator: torch.Generator) -> None:
        """Store an entry in the bucket of its highest sigma."""
        bucket = self.buckets[self.bucket(float(entry.sigma.max()))]
        if len(bucket) < self.capacity:
            slot = len(self)
        else:
            slot = bucket.pop(self._replaced(bucket, entry, generator))
        self.slots.put(slot, entry)
        bucket.append(slot)

    def _replaced(self, bucket: list[int], entry: VelocityError, generator: torch.Generator) -> int:
        if self.replacement == "fifo":
            return 0
        if self.replacement == "random":
            return int(torch.randint(len(bucket), (), generator=generator))
        new = entry.velocity.detach().to("cpu", torch.bfloat16).float()
        return int(torch.stack([(self.slots.get(slot).velocity - new).norm() for slot in bucket]).argmin())

    def draw(self, generator: torch.Generator, sigma: float | None = None) -> VelocityError | None:
        """Draw an entry from the bucket of a sigma, or from all buckets (sigma None); None if there is none."""
        slots = [s for bucket in self.buckets for s in bucket] if sigma is None else self.buckets[self.bucket(sigma)]
        return self.slots.get(slots[int(torch.randint(len(slots), (), generator=generator))]) if slots else None

    # ------------------------------------------------------------ with the checkpoint
    def save(self, folder: Path) -> None:
        """Write the entries of this rank into the folder of a checkpoint, one at a time."""
        order = [slot for bucket in self.buckets for slot in bucket]
        about = {
            "shape": list(self.slots.shape or ()),
            "buckets": self.buckets,
            "sigmas": [self.slots.sigmas[slot].tolist() for slot in order],
        }
        with replaced(self._data(folder)) as draft, open(draft, "wb") as file:
            for slot in order:
                file.write(self.slots.get(slot).velocity.bfloat16().view(torch.uint16).numpy().tobytes())
        with replaced(self._about(folder)) as draft:
            draft.write_text(json.dumps(about), encoding="utf-8", newline="\n")

    def load(self, folder: Path) -> None:
        """Read the entries that `save` wrote. CheckpointError if this rank's files are missing or incomplete."""
        path = self._data(folder)
        try:
            about = json.loads(self._about(folder).read_text(encoding="utf-8"))
            self.buckets = [list(bucket) for bucket in about["buckets"]]
            self.slots.shape = torch.Size(about["shape"]) if about["shape"] else None
            order = [slot for bucket in self.buckets for slot in bucket]
            if len(self.buckets) != len(self.centres) or path.stat().st_size != len(order) * self.slots.size:
                raise ValueError("it is incomplete, or has other buckets")
            for slot, sigma, value in zip(order, about["sigmas"], self._read(path)):
                self.slots.put(slot, VelocityError(value, torch.tensor(sigma)))
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"the error bank of rank {self.rank} in {folder} cannot be read: {error}") from error

    def _read(self, path: Path) -> Iterator[Tensor]:
        with open(path, "rb") as file:
            while raw := file.read(self.slots.size):
                values = torch.frombuffer(bytearray(raw), dtype=torch.uint16).view(torch.bfloat16)
                yield values.reshape(self.slots.shape or ())

    def _data(self, folder: Path) -> Path:
        return folder / f"errors-{self.rank}.bin"

    def _about(self, folder: Path) -> Path:
        return folder / f"errors-{self.rank}.json"


def from_all_ranks(entries: list[VelocityError], gather: Callable[[Tensor], list[Tensor]]) -> list[VelocityError]:
    """Return the entries of all ranks, in their order. gather: collects a tensor from every rank."""
    found: list[VelocityError] = []
    for entry in entries:
        velocities, sigmas = gather(entry.velocity.contiguous()), gather(entry.sigma.contiguous())
        found += [VelocityError(v, s) for v, s in zip(velocities, sigmas)]
    return found
