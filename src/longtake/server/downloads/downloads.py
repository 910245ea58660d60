"""Downloads of presets, one at a time, each in a process of its own: what is running, how far it is, and its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from longtake.core.errors import InputError
from longtake.models.checkpoints import hub, hub_cache
from longtake.models.checkpoints.hub import DownloadInfo
from longtake.models.family import ReleasedCheckpoint
from longtake.server.errors import NO_RETRY, ApiError

COMMAND = (sys.executable, "-m", "longtake.server.downloads.process")
SPARE = 2 * 10**9  # bytes of the disk that a download leaves free, for the videos
POLL = 1.0  # seconds between two looks at the disk

Publish = Callable[[str, str, Mapping[str, Any]], None]  # subject, name and data of an event


@dataclass
class Download:
    """A download since the start of this server.

    words: what its process prints. error: why it failed; None while it runs and if it was stopped.
    """

    info: DownloadInfo
    process: subprocess.Popen[bytes]
    words: IO[bytes]
    error: str | None = None
    stopped: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def read_words(self) -> str:
        """Return the last line that the process printed, after its end, and close its pipes."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        with self.words:
            self.words.seek(0)
            lines = self.words.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:500] if lines else ""


class Downloads:
    """Downloads presets into the hub's cache, and publishes their progress as events `download`.

    An event's subject is the name of the preset, its data `{"here", "download"}` as in the list of models. publish: adds an
    event. poll: seconds.
    """

    def __init__(self, publish: Publish, poll: float = POLL):
        self._publish, self._poll = publish, poll
        self._lock = threading.Lock()
        self.known: dict[str, Download] = {}  # by preset

    def facts(self, preset: ReleasedCheckpoint) -> dict[str, Any]:
        """Return `here` and `download` of a preset, as JSON values. download: None for what no repository holds."""
        if preset.hub is None:
            return {"here": False, "download": None}
        known = self.known.get(preset.name)
        running = known is not None and not known.ended.is_set()
        here = not running and is_here(preset)
        commit = known.info.revision if known else preset.revision or hub_cache.pinned(preset.hub)
        download = {
            "running": running,
            "bytes": hub_cache.stored_bytes(preset.hub, commit) if commit else 0,
            "total": known.info.bytes if known else None,
            "revision": commit,
            "error": known.error if known and not here else None,
        }
        return {"here": here, "download": download}

    def start(self, preset: ReleasedCheckpoint) -> None:
        """Start or continue a download, unless it is complete. ApiError 409 if another one runs, 507 if it does not fit."""
        if preset.hub is None:
            raise ApiError(409, "not_downloadable", f"{preset.how_to_get()}.".replace("..", "."), "id")
        with self._lock:
            running = next((name for name, one in self.known.items() if not one.ended.is_set()), None)
            if running == preset.name or (running is None and is_here(preset)):
                return
            if running is not None:
                raise ApiError(
                    409, "download_running", f"{running} is being downloaded: wait for it, or stop it.", "id"
                )
            info = _asked(preset)
            _check_disk(info)
            hub_cache.pin(info.repo, info.revision)
            download = self.known[preset.name] = _begun(info)
        threading.Thread(target=self._follow, args=(preset, download), daemon=True).start()

    def stop(self, preset: ReleasedCheckpoint) -> None:
        """Stop a download. Complete files stay, so that it can be continued; the unfinished ones are removed."""
        known = self.known.get(preset.name)
        if known is None or known.ended.is_set():
            return
        known.stopped = True
        known.process.kill()
        known.ended.wait(30)

    def close(self) -> None:
        """Stop what runs, as the server ends."""
        for known in list(self.known.values()):
            known.stopped = True
            known.process.kill()

    def _follow(self, preset: ReleasedCheckpoint, download: Download) -> None:
        """Publish the progress of a download until its process ends."""
        seen = -1
        while True:
            try:
                download.process.wait(self._poll)
                break
            except subprocess.TimeoutExpired:
                facts = self.facts(preset)
                if facts["download"]["bytes"] != seen:
                    seen = facts["download"]["bytes"]
                    self._publish(preset.name, "download", facts)
        hub_cache.remove_parts(download.info.repo)
        words = download.read_words()
        if download.process.returncode and not download.stopped:
            download.error = words or f"the download ended with {download.process.returncode}"
        download.ended.set()
        self._publish(preset.name, "download", self.facts(preset))


def is_here(preset: ReleasedCheckpoint) -> bool:
    """Whether a released checkpoint is complete in the hub's cache."""
    return preset.hub is not None and hub.cached(preset.hub, preset.revision) is not None


def _asked(preset: ReleasedCheckpoint) -> DownloadInfo:
    """Ask the hub for the size at the pinned commit. ApiError 503 or 409 if it does not say."""
    assert preset.hub is not None
    try:
        return hub.download_info(preset.hub, preset.revision or hub_cache.pinned(preset.hub))
    except hub.HubUnreachable as error:
        words = f"The hub cannot be reached for {preset.hub}. Is this machine online?"
        raise ApiError(503, "hub_unreachable", words, None, NO_RETRY) from error
    except InputError as error:
        raise ApiError(409, "not_downloadable", f"{error}.", "id") from error


def _check_disk(info: DownloadInfo) -> None:
    root = hub_cache.cache_root()
    there = next(path for path in (root, *root.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    missing = max(0, info.bytes - hub_cache.stored_bytes(info.repo, info.revision))
    if missing + SPARE > free:
        raise ApiError(
            507,
            "disk_too_small",
            f"{info.repo} needs {missing / 1e9:.1f} GB more, and {SPARE / 1e9:.0f} GB stay free for videos, but the disk of the "
            f"hub's cache has {free / 1e9:.1f} GB free: make room, or set HF_HUB_CACHE to a folder on another disk.",
            None,
            NO_RETRY,
        )


def _begun(info: DownloadInfo) -> Download:
    words = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed when the process has ended
    environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [*COMMAND, info.repo, info.revision]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words, env=environment)
    return Download(info, process, words)
