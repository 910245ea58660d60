"""The first pass over a folder: every video that was not read before is read, in several processes.

What was read is known by name, size and time of change, so that a second run need not even hash it, and by its
content, so that it may be renamed or copied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from longtake.data.analysis import How, analyse, finished
from longtake.data.manifest import shown
from longtake.data.pool import Failed, spread
from longtake.data.report import Report, plural

READ = "read.jsonl"
Watch = Callable[[int, int, str], None]  # videos done, of how many, and a line about the last one
Stamp = tuple[int, int]  # size in bytes, time of change in nanoseconds


class Known:
    """The content hashes of files by name, as long as size and time of change stay; a line each in a file."""

    def __init__(self, path: Path):
        self.path = path
        self._found: dict[str, tuple[Stamp, str]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                name, size, changed, sha256 = json.loads(line)
            except ValueError:  # torn by a kill
                continue
            self._found[name] = ((size, changed), sha256)

    def sha256(self, name: str, stamp: Stamp | None) -> str | None:
        """The hash of a file that has this stamp now."""
        seen, sha256 = self._found.get(name, (None, None))
        return sha256 if stamp is not None and seen == stamp else None

    def note(self, name: str, stamp: Stamp, sha256: str) -> None:
        """Remember a file that had this stamp before it was read."""
        if self._found.get(name) != (stamp, sha256):
            self._found[name] = (stamp, sha256)
            with open(self.path, "a") as file:
                file.write(json.dumps([name, *stamp, sha256]) + "\n")


def read_all(
    folder: Path, videos: list[str], how: How, jobs: int, report: Report, watch: Watch
) -> Iterator[tuple[str, str]]:
    """(video, content hash) of every video that can be read; the others become errors of the report."""
    how.work.mkdir(parents=True, exist_ok=True)
    known, stamps = Known(how.work / READ), {video: _stamp(folder / video) for video in videos}
    hashes = {video: known.sha256(video, stamps[video]) for video in videos}
    done = {video: sha256 for video, sha256 in hashes.items() if sha256 and finished(sha256, how)}
    yield from done.items()
    if done:
        watch(len(done), len(videos), f"{plural(len(done), 'video')} read before")
    todo = [video for video in videos if video not in done]
    for count, (video, result) in enumerate(spread(partial(_read, folder=folder, how=how), todo, jobs), len(done) + 1):
        if isinstance(result, Failed):
            report.errors.append((shown(video), result.why))
            watch(count, len(videos), f"{shown(video)}: {result.why}")
            continue
        sha256, shots = result
        if (stamp := stamps[video]) is not None:
            known.note(video, stamp, sha256)
        watch(count, len(videos), f"{shown(video)}: {plural(shots, 'shot')}")
        yield video, sha256


def _stamp(path: Path) -> Stamp | None:
    """None if it cannot be looked at; reading it will say why."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _read(video: str, folder: Path, how: How) -> tuple[str, int]:
    found = analyse(folder / video, how)
    return found.sha256, len(found.shots)
