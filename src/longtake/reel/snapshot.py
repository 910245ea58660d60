"""Snapshots: all that is needed to go on after a window, bit for bit. One counts only if its hash line is right.

`w000012.safetensors` holds the tensors of the engine and the frames that do not fill a segment yet; `w000012.json` is
written after it and holds its hash. Tensors are written one by one, so a snapshot needs no memory of its own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from longtake.reel import disk
from longtake.reel.disk import Written

SCHEMA = 1
ENGINE, PENDING = "engine.", "reel.pending"
MOST = 200  # replay snapshots that are kept at most, however small
KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Saved:
    """A snapshot on disk, after window `window`. frames: output frames made by then; segments: those that were durable.

    replay: kept so that the video can be made again from here.
    """

    window: int
    frames: int
    segments: int
    replay: bool
    bytes: int
    sha256: str
    schema: int = SCHEMA

    def tensors(self, folder: Path) -> Path:
        """Its tensor file."""
        return folder / f"w{self.window:06d}.safetensors"

    def line(self, folder: Path) -> Path:
        """Its hash line."""
        return folder / f"w{self.window:06d}.json"


@dataclass(frozen=True)
class Keep:
    """Which snapshots to make and keep.

    every: frames between snapshots (default: one segment). last: how many of the newest stay. replay: seconds of video
    between those that stay for ever, as long as they take no more than `budget` bytes; then they are thinned out.
    """

    every: int | None = None
    last: int = 2
    replay: float = 10.0
    budget: int = 1 << 30


def save(
    folder: Path,
    window: int,
    frames: int,
    segments: int,
    replay: bool,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    pending: Tensor | None,
) -> Saved:
    """Write a snapshot durably: tensors first, then the line with their hash."""
    everything = {ENGINE + name: tensor for name, tensor in tensors.items()}
    if pending is not None:
        everything[PENDING] = pending
    blank = Saved(window, frames, segments, replay, 0, "")
    written = disk.write(blank.tensors(folder), _safetensors(everything, {"facts": json.dumps(facts)}))
    saved = Saved(window, frames, segments, replay, written.bytes, written.sha256)
    disk.write(saved.line(folder), [json.dumps(asdict(saved)).encode() + b"\n"])
    return saved


def load(folder: Path, saved: Saved) -> tuple[dict[str, Tensor], dict[str, Any], Tensor | None]:
    """The engine's tensors and facts, and the pending frames."""
    with safe_open(saved.tensors(folder), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    pending = tensors.pop(PENDING, None)
    return {name.removeprefix(ENGINE): tensor for name, tensor in tensors.items()}, facts, pending


def saved(folder: Path) -> list[Saved]:
    """The snapshots that have a hash line, oldest first. Their number is bounded by `prune`."""
    found = []
    for path in folder.glob("w*.json"):
        try:
            one = Saved(**json.loads(path.read_text()))
        except (ValueError, TypeError):
            continue
        if one.schema == SCHEMA and one.line(folder) == path:
            found.append(one)
    return sorted(found, key=lambda one: one.window)


def newest(folder: Path, segments: int) -> Saved | None:
    """The newest snapshot that is whole and needs no more than the first `segments` segments."""
    usable = (one for one in reversed(saved(folder)) if one.segments <= segments)
    return next((one for one in usable if whole(folder, one)), None)


def forget(folder: Path, after: Saved | None) -> list[Saved]:
    """Delete every snapshot later than `after` (None: all) and what was half written; returns those that are left."""
    have = saved(folder)
    left = [one for one in have if after is not None and one.window <= after.window]
    _delete(folder, [one for one in have if one not in left])
    names = {one.tensors(folder) for one in left}
    for path in folder.glob("w*.safetensors"):
        if path not in names:
            path.unlink(missing_ok=True)
    return left


def whole(folder: Path, one: Saved) -> bool:
    """Whether the tensors are those of the hash line."""
    return disk.measure(one.tensors(folder)) == Written(one.bytes, one.sha256)


def prune(folder: Path, have: Sequence[Saved], keep: Keep) -> list[Saved]:
    """Delete what `keep` does not keep of the snapshots `have` (oldest first); returns those that are left."""
    last = set(have[-keep.last :])
    replay = _thinned([one for one in have if one.replay and one not in last], keep)
    left = [one for one in have if one in last or one in replay]
    _delete(folder, [one for one in have if one not in left])
    return left


def _delete(folder: Path, unwanted: list[Saved]) -> None:
    for one in unwanted:
        one.line(folder).unlink(missing_ok=True)  # first, so that no line is left without its tensors
        one.tensors(folder).unlink(missing_ok=True)


def _thinned(replay: list[Saved], keep: Keep) -> list[Saved]:
    """Within the budget: drop, again and again, the snapshot whose neighbours are closest to each other."""
    while replay and (sum(one.bytes for one in replay) > keep.budget or len(replay) > MOST):
        at = [0, *(one.frames for one in replay)]
        gaps = [at[i + 2] - at[i] for i in range(len(replay) - 1)]
        replay.pop(gaps.index(min(gaps)) if gaps else 0)
    return replay


def _safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[Any]:
    """The safetensors format piece by piece: length of the header, header, data."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    yield struct.pack("<Q", len(raw)) + raw
    for tensor in tensors.values():
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
