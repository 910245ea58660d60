"""Checkpoints on disk: step-000000/ with the parts `model`, `ema` and `optimiser`, and state.json.

A part is one safetensors file. A sharded run writes a folder instead, one file per rank, through PyTorch's distributed
checkpoint in its safetensors layout: its usual layout has a pickled index, and its ranks would send each other pickles.
A checkpoint is written under another name, put on the disk, and then renamed, so that one with its right name is whole.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.train.ranks import agree, cut, is_sharded, ranks, told

Parts = Mapping[str, Mapping[str, Tensor]]
NAME = re.compile(r"step-(\d{6,})")
FULL = (errno.ENOSPC, errno.EDQUOT)


class CheckpointError(OSError):
    """A checkpoint could not be written or read; the message says what is left and what to do."""


def place(out: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
    return out / f"step-{step:06d}"


def newest_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    return next(reversed(whole_checkpoints(out)), None)


def whole_checkpoints(out: Path) -> list[Path]:
    """Those of a run, the oldest first."""
    found = [(int(name[1]), path) for path in out.glob("step-*") if (name := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save(
    out: Path, step: int, parts: Parts, state: Mapping[str, Any], files: Callable[[Path], None] | None = None
) -> Path:
    """Write a checkpoint in one piece; every rank calls it. CheckpointError leaves those before as they were.

    files: writes what else belongs to it into its folder, on every rank.
    """
    folder = place(out, step)
    draft, first = folder.with_suffix(".part"), not ranks()[0]
    problem = _attempt(lambda: _fresh(draft)) if first else ""
    agree()  # the folder is there before anyone writes into it
    problem = problem or _attempt(lambda: _write(draft, parts))
    if files and not problem:
        problem = _attempt(lambda: files(draft))
    if first and not problem:
        problem = _attempt(lambda: write_json(draft / "state.json", state))
    problems = [text for text in told(problem) if text]
    if first:
        shutil.rmtree(draft, ignore_errors=True) if problems else _put(draft, folder)
    agree()
    if problems:
        raise CheckpointError(_sentence(folder, newest_checkpoint(out), problems[0]))
    return folder


def prune(out: Path, keep: int, best: str = "") -> None:
    """Remove all but the newest `keep` checkpoints and the one named `best`, and what a kill left half written."""
    if ranks()[0]:
        return
    old = [folder for folder in whole_checkpoints(out)[:-keep] if folder.name != best]
    for folder in [*old, *out.glob("step-*.part")]:
        shutil.rmtree(folder)


def state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself besides tensors."""
    return json.loads((folder / "state.json").read_text())


def read(folder: Path, part: str, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors of a part, whole; or this rank's piece of those whose weight in `like` is sharded.

    Keys are weight names, or `weight name|entry` in the optimiser's part. Any number of ranks may have written it.
    """
    like = like or {}
    if (path := folder / f"{part}.safetensors").exists():
        return {key: cut(tensor, like.get(key.split("|")[0])) for key, tensor in load_file(path).items()}
    return _read_shards(folder / part, like)


def whole_file(folder: Path, part: str) -> Path:
    """The file of a part of a checkpoint; made of its shards if there is none yet."""
    path = folder / f"{part}.safetensors"
    if not path.exists():
        with replaced(path) as draft:
            save_file(_read_shards(folder / part, {}), draft)
    return path


# ---------------------------------------------------------------- parts
def _write(draft: Path, parts: Parts) -> None:
    """Every part: a file by rank 0, or a folder with a file of every rank."""
    for name, tensors in parts.items():
        if any(is_sharded(tensor) for tensor in tensors.values()):
            _write_shards(draft / name, tensors)
        elif not ranks()[0]:
            save_file(_apart(tensors), path := draft / f"{name}.safetensors")
            sync(path)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without shared memory, which a safetensors file cannot express."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        found[name] = tensor.detach().clone() if storage in seen else tensor.detach().contiguous()
        seen.add(storage)
    return found


def _write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """This rank's pieces (and on rank 0 what is not sharded) in a file of their own; no rank asks another."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    rank = ranks()[0]

    class Writer(HuggingFaceStorageWriter):
        def prepare_global_plan(self, plans):  # type: ignore[no-untyped-def]
            return [replace(p, storage_data={"shard_index": rank + 1}) for p in super().prepare_global_plan(plans)]

    mine = {name: tensor for name, tensor in tensors.items() if is_sharded(tensor) or rank == 0}
    with _alone():
        dcp.save(mine, storage_writer=Writer(str(folder), save_distributed=True), no_dist=True, use_collectives=False)


def _read_shards(folder: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a folder of shards; those that are sharded in `like` stay so."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    if not folder.is_dir():
        raise CheckpointError(f"{folder.parent} has no part {folder.name!r}: it is no checkpoint of this trainer")
    about = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    found = {}
    for key, facts in about.items():
        kin = like.get(key.split("|")[0])
        if kin is not None and is_sharded(kin) and kin.shape == facts.size:  # type: ignore[union-attr]
            found[key] = torch.zeros_like(kin, requires_grad=False)
        else:
            found[key] = torch.empty(facts.size, dtype=facts.properties.dtype)  # type: ignore[union-attr]
    with _alone():
        dcp.load(found, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return found


@contextmanager
def _alone() -> Iterator[None]:
    """Without the warning that ranks do not ask each other: that is the intent."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


# ---------------------------------------------------------------- files
def write_json(path: Path, value: Any) -> None:
    """Write a file in one piece."""
    with replaced(path) as draft:
        draft.write_text(json.dumps(value, indent=2) + "\n")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A name to write to, of this process alone; on leaving, what is there is put on the disk and takes the name `path`."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield draft
        sync(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(draft: Path, folder: Path) -> None:
    """Give a finished draft its name."""
    sync(draft)
    os.replace(draft, folder)
    sync(folder.parent)


def _fresh(draft: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()


def _attempt(work: Callable[[], object]) -> str:
    """Do it; the reason why it failed, or nothing. (A rank that raised would leave the others waiting.)"""
    try:
        work()
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) in FULL or any(f"os error {code}" in str(error) for code in FULL)
        return "the disk is full" if full else str(error) or type(error).__name__
    return ""


def _sentence(folder: Path, left: Path | None, reason: str) -> str:
    kept = f"{left.name}, the one before, is whole" if left else "there is none before it"
    return f"checkpoint {folder} could not be written: {reason}; {kept}; make room and start again to go on from there"
