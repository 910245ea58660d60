"""The files of a job in its run directory: what was asked for, and one durable line for every state that it was in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.core.platform import sync, sync_folder
from longtake.runs.files import durable
from longtake.runs.files.sealed import sealed, unsealed
from longtake.runs.jobs.request import JobRequest
from longtake.runs.jobs.states import Status

JOB_SCHEMA = 1
MOST_BYTES = 1 << 22  # of job.json


@dataclass(frozen=True)
class Sender:
    """Who asked for a job, so that a request that is sent again finds it. scope: stands for the token of the sender.

    action: method and path. fingerprint: SHA-256 of what was asked for. key: the idempotency key, if there was one.
    """

    scope: str
    action: str
    fingerprint: str
    key: str | None = None


@dataclass(frozen=True)
class Job:
    """A video that was asked for. number: its place in the order of all jobs. created_at: seconds since 1970.

    origin: the id of the video that this one was made from, by what was done: remix or extends. variations: the ids of all
    jobs that were asked for together with this one.
    """

    id: str
    folder: Path
    number: int
    created_at: float
    request: JobRequest
    status: Status
    sender: Sender | None = None
    origin: Mapping[str, str] | None = None
    variations: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return what job.json holds: all but the folder and the status."""
        return {
            "schema": JOB_SCHEMA,
            "id": self.id,
            "number": self.number,
            "created_at": self.created_at,
            "request": self.request.facts(),
            "sender": None if self.sender is None else vars(self.sender),
            "origin": None if self.origin is None else dict(self.origin),
            "variations": list(self.variations),
        }

    @staticmethod
    def from_facts(facts: Mapping[str, Any], folder: Path, status: Status) -> Job:
        """Read what job.json holds. ValueError, TypeError or KeyError if it is not that."""
        if facts["schema"] != JOB_SCHEMA:
            raise ValueError(f"its schema is {facts['schema']!r}")
        sender = facts["sender"]
        return Job(
            id=facts["id"],
            folder=folder,
            number=facts["number"],
            created_at=facts["created_at"],
            request=JobRequest.from_facts(facts["request"]),
            status=status,
            sender=None if sender is None else Sender(**sender),
            origin=facts["origin"],
            variations=tuple(facts["variations"]),
        )


def job_file(folder: Path) -> Path:
    """Return the path of job.json, which never changes."""
    return folder / "job" / "job.json"


def states_file(folder: Path) -> Path:
    """Return the path of states.jsonl, with a line for every state."""
    return folder / "job" / "states.jsonl"


def preview_file(folder: Path) -> Path:
    """Return the path of preview.png, the last preview that was drawn while somebody watched."""
    return folder / "job" / "preview.png"


def stage_job(job: Job, staging: Path) -> None:
    """Write the files of a job into a folder that is to become its run directory."""
    (staging / "job").mkdir(parents=True, exist_ok=True)
    durable.write_file(job_file(staging), [json.dumps(job.facts(), ensure_ascii=False).encode() + b"\n"])
    append_status(staging, job.status)
    sync_folder(staging)


def append_status(folder: Path, status: Status) -> None:
    """Append a state durably; a line that a kill cut off is removed first."""
    path, whole, check = states_file(folder), 0, ""
    for whole, check, _ in _lines(path):  # noqa: B007, the last are used
        pass
    line, _ = sealed(status.facts(), check)
    fresh = not path.exists()
    with open(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b", buffering=0) as file:
        file.truncate(whole)
        file.seek(whole)
        durable.write_all(file, line)
        sync(file.fileno())
    if fresh:
        sync_folder(path.parent)


def read_job(folder: Path) -> Job | None:
    """Read the job of a run directory; None if it holds none, or one that is damaged, is of another version or was deleted."""
    path = job_file(folder)
    try:
        if path.is_symlink() or path.stat().st_size > MOST_BYTES:
            return None
        job = Job.from_facts(json.loads(path.read_bytes()), folder, statuses(folder)[-1])
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    return job


def statuses(folder: Path) -> list[Status]:
    """Return all states that the job of a folder was in, the oldest first."""
    return [status for _, _, status in _lines(states_file(folder))]


def _lines(path: Path) -> Iterator[tuple[int, str, Status]]:
    """Yield the states that were written whole, each with the offset behind its line and its checksum."""
    end, check = 0, ""
    try:
        raw_lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for raw in raw_lines:
        found = unsealed(raw, check)
        if found is None:
            return
        end, check = end + len(raw), found[1]
        try:
            yield end, check, Status.from_facts(found[0])
        except (ValueError, TypeError, KeyError):
            return
