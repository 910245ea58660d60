"""Files that clients sent to be used by later requests. Their names on disk hold nothing that a client wrote."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from longtake.core.platform import replace_file
from longtake.server.errors import ApiError

ID = re.compile(r"file_[0-9a-f]{32}")
KEPT_SECONDS = 24 * 3600.0
KEPT_BYTES = 8 << 30


@dataclass(frozen=True)
class UploadStore:
    """The folder of uploads. A file is deleted after a day, or earlier where newer ones need its room."""

    folder: Path
    seconds: float = KEPT_SECONDS
    bytes: int = KEPT_BYTES

    def add(self, path: Path, suffix: str) -> str:
        """Keep a copy of a file and return its id."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(path.stat().st_size)
        id = f"file_{secrets.token_hex(16)}"
        temporary = self.folder / f"{id}.tmp"
        try:
            shutil.copyfile(path, temporary)
            replace_file(temporary, self.folder / f"{id}{suffix}")
        finally:
            temporary.unlink(missing_ok=True)
        return id

    def path(self, id: str, param: str) -> Path:
        """Return the path of an upload. ApiError 404 if there is none of this id."""
        found = list(self.folder.glob(f"{id}.*")) if ID.fullmatch(id) else []
        found = [path for path in found if path.suffix != ".tmp" and path.is_file() and not path.is_symlink()]
        if not found:
            message = f"There is no upload of this id; uploads are kept for {self.seconds / 3600:g} hours."
            raise ApiError(404, "upload_not_found", message, param)
        return found[0]

    def _make_room(self, needed: int) -> None:
        """Delete what is too old, and the oldest files while all of them with the new one would take too much."""
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.iterdir())
        total = sum(size for _, size, _ in files) + needed
        for changed, size, path in files:
            if total > self.bytes or time.time() - changed > self.seconds:
                path.unlink(missing_ok=True)
                total -= size
