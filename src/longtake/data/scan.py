"""The first pass over a folder: every video that was not analysed before is analysed, in several processes.

A video that was analysed is recognised by name, size and modification time, so that a second pass need not even hash it,
and by its contents, so that it may be renamed or copied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from longtake.data.manifest import printable
from longtake.data.report import Report, plural
from longtake.data.shots.analysis import AnalysisSettings, analyse, stored_analysis
from longtake.data.worker_pool import Failed, parallel_map

HASHES = "read.jsonl"
OnProgress = Callable[[int, int, str], None]  # videos done, videos in all, and a line about the last one
FileStamp = tuple[int, int]  # size in bytes, modification time in nanoseconds


class HashCache:
    """The SHA-256 of files by name, valid as long as size and modification time stay; stored as one line each."""

    def __init__(self, path: Path):
        self.path = path
        self._found: dict[str, tuple[FileStamp, str]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                name, size, changed, sha256 = json.loads(line)
            except ValueError:  # incomplete: the process was killed
                continue
            self._found[name] = ((size, changed), sha256)

    def get(self, name: str, stamp: FileStamp | None) -> str | None:
        """Return the hash of a file that has this stamp now; None if it is not known."""
        found, sha256 = self._found.get(name, (None, None))
        return sha256 if stamp is not None and found == stamp else None

    def put(self, name: str, stamp: FileStamp, sha256: str) -> None:
        """Store the hash of a file that had this stamp before it was read."""
        if self._found.get(name) != (stamp, sha256):
            self._found[name] = (stamp, sha256)
            with open(self.path, "a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps([name, *stamp, sha256]) + "\n")


def analyse_all(
    folder: Path, videos: list[str], settings: AnalysisSettings, jobs: int, report: Report, progress: OnProgress
) -> Iterator[tuple[str, str]]:
    """Yield (video, SHA-256) for every video that can be read; the others become errors of the report."""
    settings.work.mkdir(parents=True, exist_ok=True)
    cache, stamps = HashCache(settings.work / HASHES), {video: stamp_of(folder / video) for video in videos}
    hashes = {video: cache.get(video, stamps[video]) for video in videos}
    done = {video: sha256 for video, sha256 in hashes.items() if sha256 and stored_analysis(sha256, settings)}
    yield from done.items()
    if done:
        progress(len(done), len(videos), f"{plural(len(done), 'video')} read before")
    todo = [video for video in videos if video not in done]
    results = parallel_map(partial(_analyse, folder=folder, settings=settings), todo, jobs)
    for count, (video, result) in enumerate(results, len(done) + 1):
        if isinstance(result, Failed):
            report.errors.append((printable(video), result.why))
            progress(count, len(videos), f"{printable(video)}: {result.why}")
            continue
        sha256, shots = result
        if (stamp := stamps[video]) is not None:
            cache.put(video, stamp, sha256)
        progress(count, len(videos), f"{printable(video)}: {plural(shots, 'shot')}")
        yield video, sha256


def stamp_of(path: Path) -> FileStamp | None:
    """Size and modification time; None if the file system refuses, and then reading the file says why."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _analyse(video: str, folder: Path, settings: AnalysisSettings) -> tuple[str, int]:
    found = analyse(folder / video, settings)
    return found.sha256, len(found.shots)
