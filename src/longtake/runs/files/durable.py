"""Durable files: once a function here returns, the file is complete on disk and survives a kill or a power cut."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from longtake.core.platform import delete_file, replace_file, sync_file, sync_folder

TEMPORARY = ".tmp"  # suffix of unfinished files, which may be deleted while no process writes the run
BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class FileDigest:
    """The size and SHA-256 (hexadecimal) of a file's contents."""

    bytes: int
    sha256: str


def digest(data: bytes) -> FileDigest:
    """Return the digest of a file with these contents."""
    return FileDigest(len(data), hashlib.sha256(data).hexdigest())


def file_digest(path: Path) -> FileDigest | None:
    """Return the digest of a file, reading one block at a time; None if there is no such file."""
    sha, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                sha.update(block)
                size += len(block)
    except FileNotFoundError:
        return None
    return FileDigest(size, sha.hexdigest())


def write_all(file: FileIO, data: Any) -> None:
    """Write all of a buffer to an unbuffered file; raises OSError."""
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view) :]


def write_file(path: Path, chunks: Iterable[Any]) -> FileDigest:
    """Write a file from chunks (bytes or buffers) durably and atomically: temporary name, fsync, rename, fsync of the folder."""
    sha, size = hashlib.sha256(), 0
    with atomic_path(path) as temporary, open(temporary, "wb", buffering=0) as file:
        for chunk in chunks:
            write_all(file, chunk)
            sha.update(chunk)
            size += memoryview(chunk).nbytes
    return FileDigest(size, sha.hexdigest())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; afterwards that file is durable as `path`, or deleted if the block raised."""
    temporary = path.with_name(path.name + TEMPORARY)
    delete_file(temporary)  # so that a link of that name is never followed
    try:
        yield temporary
        move(temporary, path)
    except BaseException:
        delete_file(temporary)
        raise


def move(complete: Path, path: Path) -> None:
    """Give a complete file of the same folder its name durably, in place of a file that has it."""
    sync_file(complete)
    replace_file(complete, path)
    sync_folder(path.parent)


def delete_temporary(folder: Path) -> None:
    """Delete the unfinished files that a process left in a folder when it was killed."""
    for temporary in folder.glob("*" + TEMPORARY):
        delete_file(temporary)


def unshare(path: Path) -> None:
    """Give a file that is appended to contents of its own, if a hard link, such as that of a backup, shares them."""
    try:
        shared = os.lstat(path).st_nlink > 1
    except FileNotFoundError:
        return
    if shared:
        write_file(path, _blocks(path))


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block
