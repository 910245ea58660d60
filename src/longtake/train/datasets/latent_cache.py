"""A folder of latents named by their content, limited in size: the least recently used are deleted to make room.

Several processes and several runs may share a folder. Files appear under their final names by a rename, so that they
are complete; a file that a crash of the machine has damaged counts as missing.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.core.errors import InputError
from longtake.core.platform import delete_file, replace_file

OVERHEAD = 256  # largest number of bytes of a file beside its tensor
SHARERS = 8  # processes that may fill a folder at once without exceeding its limit
STALE = 3600  # seconds after which an unfinished file counts as abandoned


class CacheError(InputError):
    """A folder into which latents cannot be written."""


class LatentCache:
    """A folder of at most `limit` bytes, apart from files that other processes are writing at the same time."""

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit
        self.room = 0  # bytes that may be written before the folder is listed again
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, key: str) -> bool:
        """Whether a key is present; it then counts as used."""
        return self._used(self._path(key))

    def get(self, key: str) -> Tensor | None:
        """Return the tensor of a key, or None."""
        path = self._path(key)
        if not self._used(path):
            return None
        try:
            return load_file(path)["latents"].clone()  # Windows deletes no file that a tensor maps
        except FileNotFoundError:  # deleted by another process to make room
            return None
        except (SafetensorError, KeyError):
            path.unlink(missing_ok=True)
            return None

    def put(self, key: str, latents: Tensor) -> None:
        """Store a tensor, unless it exceeds the limit alone. CacheError if it cannot be written."""
        size = latents.numel() * latents.element_size() + OVERHEAD
        if size > self.limit:
            return
        draft = self.folder / f"{key}.{os.getpid()}.part"
        try:
            if self.room < size:
                self._make_room(size)
            self.room -= size
            save_file({"latents": latents.contiguous()}, draft)
            replace_file(draft, self._path(key))
        except (OSError, SafetensorError) as error:
            raise CacheError(
                f"latents cannot be written to {self.folder}: {error}. Free some space there, set `cache` to another "
                "folder, or lower `cache_gb`"
            ) from error
        finally:
            delete_file(draft)

    def _make_room(self, size: int) -> None:
        """Delete the least recently used files until `size` bytes fit. A share of the free room may then be filled without
        listing the folder again; other processes may be filling it too."""
        found = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                stat = entry.stat()
                if entry.name.endswith(".safetensors") or time.time() - stat.st_mtime > STALE:
                    found.append((stat.st_mtime_ns, entry.name, stat.st_size))
        total = sum(bytes for _, _, bytes in found)
        for _, name, bytes in sorted(found):
            if total + size <= self.limit:
                break
            (self.folder / name).unlink(missing_ok=True)
            total -= bytes
        self.room = max(size, (self.limit - total) // SHARERS)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _used(self, path: Path) -> bool:
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        except PermissionError:  # the folder belongs to another user
            return path.exists()
        return True
