"""Durable files: what has returned from here is on the disk, whole, and survives a kill or a power cut."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from longtake.media import MediaError

SPARE = ".tmp"  # files of this ending are half written and may be deleted when nobody writes the reel
BLOCK = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class ReelError(RuntimeError):
    """Something about a reel that its owner can act on; the message says what to do."""


@dataclass(frozen=True)
class Written:
    """What a file holds. sha256: in hexadecimal."""

    bytes: int
    sha256: str


def digest(data: bytes) -> Written:
    """What a file of these bytes holds."""
    return Written(len(data), hashlib.sha256(data).hexdigest())


def put(file: FileIO, data: Any) -> None:
    """All of `data` into an unbuffered file, or OSError."""
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view) :]


def write(path: Path, chunks: Iterable[Any]) -> Written:
    """A file made of chunks (bytes or buffers): under a spare name, fsync, rename, fsync of the folder."""
    sha, size = hashlib.sha256(), 0
    with replaced(path) as spare, open(spare, "wb", buffering=0) as file:
        for chunk in chunks:
            put(file, chunk)
            sha.update(chunk)
            size += memoryview(chunk).nbytes
    return Written(size, sha.hexdigest())


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A spare path to write; after the block its file is durable under `path`, or gone if the block failed."""
    spare = path.with_name(path.name + SPARE)
    try:
        yield spare
        with open(spare, "rb") as file:
            os.fsync(file.fileno())
        os.replace(spare, path)
        sync(path.parent)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def measure(path: Path) -> Written | None:
    """Size and hash of a file, read a block at a time; None if it is not there."""
    sha, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                sha.update(block)
                size += len(block)
    except FileNotFoundError:
        return None
    return Written(size, sha.hexdigest())


def sweep(folder: Path) -> None:
    """Delete what was half written when an earlier process died."""
    for spare in folder.glob("*" + SPARE):
        spare.unlink(missing_ok=True)


def resume(folder: Path, *flags: str) -> str:
    """The command that goes on with a reel, as one can paste it."""
    return f"`{shlex.join(['longtake', 'resume', str(folder), *flags])}`"


@contextmanager
def explained(folder: Path, doing: str) -> Iterator[None]:
    """Turn what goes wrong while `doing` something in a reel's folder into one sentence that says what to do."""
    again = resume(folder)
    try:
        yield
    except MediaError as error:
        raise ReelError(f"{doing} failed: {error}; everything before it is safe, go on with {again}") from error
    except OSError as error:
        if error.errno in FULL:
            raise ReelError(
                f"the disk is full ({doing}): free some space and go on with {again}; everything before it is safe"
            ) from error
        if error.errno in FORBIDDEN:
            raise ReelError(f"{folder} cannot be written ({doing}): choose another folder") from error
        raise ReelError(
            f"{doing} failed ({error.strerror or error}): see that {folder} is there and can be written, "
            f"then go on with {again}; everything before it is safe"
        ) from error
