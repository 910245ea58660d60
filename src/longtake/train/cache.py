"""Encoded items on disk, in shards 00000.safetensors, ... of `SHARD` items each: item n is in shard n // SHARD, for ever.

A shard may hold fewer: of a folder that was filled with fewer items once, it is made again when more are wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

SHARD = 64
SHARDS = "?????.safetensors"


def fill_shards(
    folder: Path, count: int, make: Callable[[range], dict[str, Tensor]], share: tuple[int, int] = (0, 1),
    report: Callable[[str], None] = print, what: str = "clips",
) -> None:  # fmt: skip
    """Write the shards of items 0..count-1 that are not yet in the folder, each whole or not at all.

    share: (r, n) does every n-th shard, from the r-th on, so that n processes can fill one folder together.
    """
    for first in range(share[0] * SHARD, count, share[1] * SHARD):
        path, numbers = folder / f"{first // SHARD:05d}.safetensors", range(first, min(first + SHARD, count))
        if held(path) >= len(numbers):
            continue
        save_file(make(numbers), draft := path.with_suffix(f".part{share[0]}"))
        os.replace(draft, path)
        report(f"{numbers.stop} of {count} {what} encoded")


def stacked(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of items of one shape as one tensor of each name, in half precision."""
    return {name: torch.stack([item[name] for item in items]).half() for name in items[0]}


def held(path: Path) -> int:
    """Items of a shard; none if it is not there."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        return min(file.get_slice(name).get_shape()[0] for name in file.keys())  # noqa: SIM118


def read_shards(folder: Path) -> dict[int, dict[str, Tensor]]:
    """The tensors of every shard of a folder, by the number of its first item."""
    return {int(path.stem) * SHARD: load_file(path) for path in sorted(folder.glob(SHARDS))}


def numbers_of(firsts: dict[int, Tensor]) -> list[int]:
    """The numbers of the items of shards (n, ...), by the number of the first."""
    return [first + place for first, items in firsts.items() for place in range(len(items))]
