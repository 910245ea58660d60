"""Encoded items on disk, in shards 00000.safetensors, ... of `SHARD` items each: item n is in shard n // SHARD, for ever.

A shard may hold fewer: of a folder that was filled with fewer items once, it is made again when more are wanted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from longtake.models.weights import write_file
from longtake.train.checkpoint import write_json

SHARD = 64
SHARDS = "?????.safetensors"


@dataclass(frozen=True)
class Coder:
    """The codec that latents come from. name: as it was given; digest: see `digest_of`."""

    name: str
    digest: str

    @staticmethod
    def of(codec: nn.Module, folder: Path) -> Coder:
        """A codec that was loaded from a folder."""
        return Coder(str(folder), digest_of(codec))


def digest_of(codec: nn.Module) -> str:
    """A SHA-256 of what a codec makes latents with, rounded to bfloat16: a codec whose decoder alone was trained further, and
    one that was written to a model folder, give the same latents as before."""
    total = hashlib.sha256()
    for name, tensor in sorted(codec.state_dict().items()):
        if not name.startswith(("decoder.", "post_quant_conv.")):
            total.update(name.encode())
            total.update(tensor.cpu().bfloat16().view(torch.int16).numpy().tobytes())
    for name in ("latents_mean", "latents_std"):
        total.update(json.dumps(getattr(codec.config, name, None)).encode())
    return total.hexdigest()


def claim(path: Path, about: Mapping[str, Any], coder: Coder | None, what: str = "other clips") -> None:
    """Write the json file that says what a folder holds, and the codec of it, if that is known.

    ValueError if the folder holds something else, or latents of another codec; earlier versions did not note that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    facts, before = json.loads(json.dumps(about)), json.loads(path.read_text()) if path.exists() else {}
    digest = before.pop("codec", "")
    if before and before != facts:
        raise ValueError(f"{path.parent} holds {what} ({json.dumps(before)}); choose another folder")
    if coder is not None:
        check_codec(path, coder)
        digest = coder.digest
    write_json(path, {**facts, **({"codec": digest} if digest else {})})


def check_codec(path: Path, coder: Coder) -> None:
    """ValueError if such a json file says that its folder was encoded by another codec."""
    digest = json.loads(path.read_text()).get("codec") if path.exists() else None
    if digest and digest != coder.digest:
        raise ValueError(
            f"{path.parent} was encoded by another codec ({digest[:12]}) than {coder.name} ({coder.digest[:12]}): name the "
            "codec that it was encoded by, or choose another folder"
        )


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
        write_file(make(numbers), path)
        report(f"{numbers.stop} of {count} {what} encoded")


def filled(folder: Path, count: int) -> bool:
    """Whether the shards of items 0..count-1 are all there."""
    firsts = range(0, count, SHARD)
    return all(held(folder / f"{first // SHARD:05d}.safetensors") >= min(SHARD, count - first) for first in firsts)


def stacked(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of items of one shape as one tensor of each name, in half precision."""
    return {name: torch.stack([item[name] for item in items]).half() for name in items[0]}


def held(path: Path) -> int:
    """Items of a shard; none if it is not there, or cut short."""
    try:
        with safe_open(path, "pt") as file:
            return min(file.get_slice(name).get_shape()[0] for name in file.keys())  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return 0


def read_shards(folder: Path) -> dict[int, dict[str, Tensor]]:
    """The tensors of every shard of a folder, by the number of its first item. OSError names one that cannot be read."""
    return {int(path.stem) * SHARD: _read(path) for path in sorted(folder.glob(SHARDS))}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path} cannot be read ({error}): remove it, and the run that encoded it makes it again"
        ) from error


def numbers_of(firsts: dict[int, Tensor]) -> list[int]:
    """The numbers of the items of shards (n, ...), by the number of the first."""
    return [first + place for first, items in firsts.items() for place in range(len(items))]
