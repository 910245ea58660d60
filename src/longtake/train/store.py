"""Latents on disk under names that tell their content; what was not used for longest goes when there is no more room.

Several processes and several runs may share a folder. What is there is whole, since files appear under their names in
one move; a file that a crash of the machine has spoilt is as good as none.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

OVERHEAD = 256  # bytes of a file besides its tensor, at most
SHARERS = 8  # processes that may fill a folder at once without making it too large
STALE = 3600  # seconds after which an unfinished file belongs to nobody


class StoreError(ValueError):
    """Latents that cannot be kept."""


class Store:
    """A folder of at most `limit` bytes, but for what other processes are writing at the same time."""

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit
        self.left = 0  # bytes that may be put before the folder is listed again
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, key: str) -> bool:
        """Whether it is there; it then counts as used."""
        return self._used(self._path(key))

    def get(self, key: str) -> Tensor | None:
        """What was put under a key, or None."""
        path = self._path(key)
        if not self._used(path):
            return None
        try:
            return load_file(path)["latents"]
        except FileNotFoundError:  # gone for want of room, since it was looked for
            return None
        except (SafetensorError, KeyError):
            path.unlink(missing_ok=True)
            return None

    def put(self, key: str, latents: Tensor) -> None:
        """Keep a tensor; nothing if it is larger than all the room. StoreError if it cannot be written."""
        size = latents.numel() * latents.element_size() + OVERHEAD
        if size > self.limit:
            return
        draft = self.folder / f"{key}.{os.getpid()}.part"
        try:
            if self.left < size:
                self._make_room(size)
            self.left -= size
            save_file({"latents": latents.contiguous()}, draft)
            os.replace(draft, self._path(key))
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"latents cannot be kept in {self.folder}: {error}. Make room there, or set `cache` to another folder, or "
                "`cache_gb` to less"
            ) from error
        finally:
            draft.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Delete what was not used for longest until `size` bytes fit. A part of what is then free is left to put without
        another look, since others may be putting too."""
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
        self.left = max(size, (self.limit - total) // SHARERS)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _used(self, path: Path) -> bool:
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        except PermissionError:  # of somebody else's folder
            return path.exists()
        return True
