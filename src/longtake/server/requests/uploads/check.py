"""The check of a file that a client sent, before anything else reads it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from longtake.server.errors import ApiError
from longtake.server.requests.uploads.kinds import HEAD, FileKind, kind_of
from longtake.server.requests.uploads.limits import MediaLimits

COMMAND = (sys.executable, "-m", "longtake.server.requests.uploads.probe")
TAKEN = {
    "image": {"image"},
    "last_image": {"image"},
    "video": {"video"},
    "input_video": {"video"},
    "control": {"table", "sound", "video"},
    "input_reference": {"image", "video"},
    "file": {"image", "video", "sound", "table"},
}  # the kinds of file that each field of a request takes


@dataclass(frozen=True)
class Checked:
    """A file that was decoded. facts: its width, height, frames and seconds, as far as it has them."""

    kind: FileKind
    facts: dict[str, Any]


@dataclass
class FileCheck:
    """Checks files, at most two at a time, each in a process with limits."""

    limits: MediaLimits = field(default_factory=MediaLimits)
    _running: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    async def check(self, path: Path, name: str, takes: set[str]) -> Checked:
        """Return what a file is. ApiError 400 or 415, with `name` as its field, if it is none of these kinds or too large."""
        with open(path, "rb") as file:
            kind = kind_of(file.read(HEAD))
        if kind is None or kind.name not in takes:
            found = "of a type that is not known here" if kind is None else f"{kind.format} ({kind.name})"
            message = f"{name} takes files of these kinds: {', '.join(sorted(takes))}. This one is {found}."
            raise ApiError(415, "unsupported_file", message, name)
        if kind.name not in ("image", "video", "sound"):
            return Checked(kind, {})
        return Checked(kind, await self._probed(path, name, kind.name, kind.format))

    async def tags(self, path: Path, name: str) -> dict[str, str]:
        """Return the texts that a file carries, by their names. ApiError 400 as in `check`."""
        found: dict[str, str] = (await self._probed(path, name, "tags", ""))["tags"]
        return found

    async def _probed(self, path: Path, name: str, probe: str, format: str) -> dict[str, Any]:
        """Return what a probe says of a file. ApiError 400 if it cannot be decoded within the limits."""
        facts = await self._run((*COMMAND, probe, format, str(path), json.dumps(asdict(self.limits))))
        if "error" in facts:
            raise ApiError(400, "invalid_file", f"{name} is not taken: {facts['error']}.", name)
        return facts

    async def _run(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Run a probe in a process of its own; return what it prints."""
        async with self._running:
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                async with asyncio.timeout(self.limits.wall):
                    out, _ = await process.communicate()
            except TimeoutError:
                return {"error": f"decoding it takes longer than {self.limits.wall:g} s"}
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        try:
            return dict(json.loads(out))
        except ValueError:
            return {"error": "decoding it takes too much memory or time, or ends the decoder"}
