"""Checkpoints on disk: step-000000/ with the parts `model`, `ema` and `optimiser`, and state.json.

A part is one safetensors file. A sharded run writes a folder instead, one file per rank, through PyTorch's distributed
checkpoint in its safetensors layout: its usual layout has a pickled index, and its ranks would send each other pickles.
A checkpoint is written under a temporary name, synced and renamed, so that a folder with a final name is complete.
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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longtake.core.errors import LongtakeError
from longtake.core.platform import delete_file, replace_file, sync_file, sync_folder
from longtake.train.run.distributed import all_agree, gather_texts, is_sharded, ranks, shard_like

Parts = Mapping[str, Mapping[str, Tensor]]
NAME = re.compile(r"step-(\d{6,})")
FULL = (errno.ENOSPC, errno.EDQUOT)


class CheckpointError(LongtakeError, OSError):
    """A checkpoint that could not be written or read; the message says what is left and what to do."""


def checkpoint_folder(out: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return out / f"step-{step:06d}"


def newest_checkpoint(out: Path) -> Path | None:
    """Return the newest complete checkpoint of a run."""
    return next(reversed(complete_checkpoints(out)), None)


def complete_checkpoints(out: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    found = [(int(name[1]), path) for path in out.glob("step-*") if (name := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save(
    out: Path, step: int, parts: Parts, state: Mapping[str, Any], files: Callable[[Path], None] | None = None
) -> Path:
    """Write a checkpoint atomically; every rank calls it. After a CheckpointError older checkpoints are unchanged.

    files: writes further files into the folder of the checkpoint, on every rank.
    """
    folder = checkpoint_folder(out, step)
    draft, first = folder.with_suffix(".part"), not ranks()[0]
    problem = _attempt(lambda: _fresh(draft)) if first else ""
    all_agree()  # the folder is there before anyone writes into it
    problem = problem or _attempt(lambda: _write(draft, parts))
    if files and not problem:
        problem = _attempt(lambda: files(draft))
    if first and not problem:
        problem = _attempt(lambda: write_json(draft / "state.json", state))
    problems = [text for text in gather_texts(problem) if text]
    if first:
        shutil.rmtree(draft, ignore_errors=True) if problems else _put(draft, folder)
    all_agree()
    if problems:
        raise CheckpointError(_sentence(folder, newest_checkpoint(out), problems[0]))
    return folder


def prune(out: Path, keep: int, best: str = "") -> None:
    """Remove all but the newest `keep` checkpoints and the one named `best`, and what a killed process left unfinished."""
    if ranks()[0]:
        return
    old = [folder for folder in complete_checkpoints(out)[:-keep] if folder.name != best]
    for folder in [*old, *out.glob("step-*.part")]:
        shutil.rmtree(folder)


def state(folder: Path) -> dict[str, Any]:
    """Read state.json of a checkpoint."""
    return json.loads((folder / "state.json").read_text(encoding="utf-8"))


def read(folder: Path, part: str, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Read the tensors of a part: in full, or this rank's piece of those whose weight in `like` is sharded.

    Keys are weight names, or `weight name|entry` in the optimiser's part. Any number of ranks may have written it. The
    tensors are copies: Windows deletes no file that tensors map.
    """
    like = like or {}
    if (path := folder / f"{part}.safetensors").exists():
        with safe_open(path, "pt") as file:
            whole = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        return {key: shard_like(tensor, like.get(key.split("|")[0])) for key, tensor in whole.items()}
    return _read_shards(folder / part, like)


def whole_file(folder: Path, part: str) -> Path:
    """Return the file of a part of a checkpoint; a sharded part is merged into one file first."""
    path = folder / f"{part}.safetensors"
    if not path.exists():
        with replaced(path) as draft:
            save_file(_read_shards(folder / part, {}), draft)
    return path


# ---------------------------------------------------------------- parts
def _write(draft: Path, parts: Parts) -> None:
    """Write every part: rank 0 writes one file, or every rank writes its file into a folder."""
    for name, tensors in parts.items():
        if any(is_sharded(tensor) for tensor in tensors.values()):
            write_shards(draft / name, tensors)
        elif not ranks()[0]:
            save_file(_apart(tensors), path := draft / f"{name}.safetensors")
            sync_file(path)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory, which a safetensors file cannot express."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        found[name] = tensor.detach().clone() if storage in seen else tensor.detach().contiguous()
        seen.add(storage)
    return found


def write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write this rank's pieces (and on rank 0 what is not sharded) into a file, without communication between ranks."""
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
    """Read the tensors of a folder of shards; those that are sharded in `like` stay sharded."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    if not folder.is_dir():
        raise CheckpointError(f"{folder.parent} has no part {folder.name!r}: it is not a checkpoint of this trainer")
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
    """Silence the warning that ranks do not communicate, which is intended here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


# ---------------------------------------------------------------- files
def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with replaced(path) as draft:
        draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8", newline="\n")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary name of this process; on leaving, the file written there is synced and renamed to `path`."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield draft
        sync_file(draft)
        replace_file(draft, path)
    except BaseException:
        delete_file(draft)
        raise


def _put(draft: Path, folder: Path) -> None:
    """Rename a finished draft to its final name."""
    sync_folder(draft)
    replace_file(draft, folder)
    sync_folder(folder.parent)


def _fresh(draft: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()


def _attempt(work: Callable[[], object]) -> str:
    """Run `work` and return why it failed, or "". (A rank that raised would leave the others waiting.)"""
    try:
        work()
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) in FULL or any(f"os error {code}" in str(error) for code in FULL)
        return "the disk is full" if full else str(error) or type(error).__name__
    return ""


def _sentence(folder: Path, left: Path | None, reason: str) -> str:
    kept = f"{left.name}, the one before it, is complete" if left else "there is no earlier one"
    return f"checkpoint {folder} could not be written: {reason}; {kept}; free some space and run again to resume there"
