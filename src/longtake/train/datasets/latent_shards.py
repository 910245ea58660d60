"""Encoded items on disk, in shards 00000.safetensors, ... of `SHARD` items: item n is always in shard n // SHARD.

A shard may hold fewer items if the folder was filled with fewer once; it is encoded again when more are requested.
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

from longtake.core.errors import InputError
from longtake.models.checkpoints.loading import write_file
from longtake.train.run.checkpoint import write_json

SHARD = 64
SHARDS = "?????.safetensors"


@dataclass(frozen=True)
class VAEFingerprint:
    """The VAE that made some latents. name: as the user wrote it. digest: see `vae_digest`."""

    name: str
    digest: str

    @staticmethod
    def of(vae: nn.Module, folder: Path) -> VAEFingerprint:
        """Return the fingerprint of a VAE that was loaded from a folder."""
        return VAEFingerprint(str(folder), vae_digest(vae))


def vae_digest(vae: nn.Module) -> str:
    """Compute a SHA-256 of everything that decides a VAE's latents, rounded to bfloat16.

    A VAE whose decoder alone was trained further, or that was exported to a model folder, gives the same latents and has
    the same digest.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if not name.startswith(("decoder.", "post_quant_conv.")):
            total.update(name.encode())
            total.update(tensor.cpu().bfloat16().view(torch.int16).numpy().tobytes())
    for name in ("latents_mean", "latents_std"):
        total.update(json.dumps(getattr(vae.config, name, None)).encode())
    return total.hexdigest()


def claim(path: Path, about: Mapping[str, Any], fingerprint: VAEFingerprint | None, what: str = "other clips") -> None:
    """Write the JSON file that describes a folder of latents and, if it is known, their VAE.

    InputError if the folder holds something else, or latents of another VAE.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    facts, before = json.loads(json.dumps(about)), json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    digest = before.pop("vae", "")
    if before and before != facts:
        raise InputError(f"{path.parent} holds {what} ({json.dumps(before)}); choose another folder")
    if fingerprint is not None:
        check_vae(path, fingerprint)
        digest = fingerprint.digest
    write_json(path, {**facts, **({"vae": digest} if digest else {})})


def check_vae(path: Path, fingerprint: VAEFingerprint) -> None:
    """Raise InputError if a folder's JSON file names another VAE."""
    digest = json.loads(path.read_text(encoding="utf-8")).get("vae") if path.exists() else None
    if digest and digest != fingerprint.digest:
        raise InputError(
            f"{path.parent} was encoded by another VAE ({digest[:12]}) than {fingerprint.name} "
            f"({fingerprint.digest[:12]}): use the VAE that encoded it, or choose another folder"
        )


def fill_shards(
    folder: Path, count: int, make: Callable[[range], dict[str, Tensor]], share: tuple[int, int] = (0, 1),
    report: Callable[[str], None] = print, what: str = "clips",
) -> None:  # fmt: skip
    """Write the missing shards of items 0..count-1 into the folder, each atomically.

    share: (r, n) encodes every n-th shard from the r-th on, so that n processes can fill one folder together.
    """
    for first in range(share[0] * SHARD, count, share[1] * SHARD):
        path, numbers = folder / f"{first // SHARD:05d}.safetensors", range(first, min(first + SHARD, count))
        if items_in(path) >= len(numbers):
            continue
        write_file(make(numbers), path)
        report(f"{numbers.stop} of {count} {what} encoded")


def filled(folder: Path, count: int) -> bool:
    """Whether the folder holds the shards of items 0..count-1."""
    firsts = range(0, count, SHARD)
    return all(items_in(folder / f"{first // SHARD:05d}.safetensors") >= min(SHARD, count - first) for first in firsts)


def stacked(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack the tensors of items of one shape by name, in half precision."""
    return {name: torch.stack([item[name] for item in items]).half() for name in items[0]}


def items_in(path: Path) -> int:
    """Count the items of a shard; 0 if it is missing or truncated."""
    try:
        with safe_open(path, "pt") as file:
            return min(file.get_slice(name).get_shape()[0] for name in file.keys())  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return 0


def read_shards(folder: Path) -> dict[int, dict[str, Tensor]]:
    """Read every shard of a folder, by the number of its first item. OSError names a shard that cannot be read."""
    return {int(path.stem) * SHARD: _read(path) for path in sorted(folder.glob(SHARDS))}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path} cannot be read ({error}): delete it, and the run that encoded it will encode it again"
        ) from error


def numbers_of(firsts: dict[int, Tensor]) -> list[int]:
    """Return the numbers of the items of shards (n, ...), given by the numbers of their first items."""
    return [first + offset for first, items in firsts.items() for offset in range(len(items))]
