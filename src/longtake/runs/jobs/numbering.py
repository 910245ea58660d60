"""Ids and numbers of jobs: ids hold nothing that a user wrote, and numbers keep their order when the clock jumps."""

from __future__ import annotations

import hashlib
import re
import secrets
import time

ID = re.compile(r"[a-z0-9_]{8,64}")
RUN_ID = "run_"  # how the ids of runs begin that are no jobs
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_id() -> str:
    """Return the id of a new job, which nobody can guess."""
    return "video_" + "".join(secrets.choice(_LETTERS) for _ in range(26))


def run_id(name: str) -> str:
    """Return the id of a run directory that is no job, from the name of its folder."""
    return RUN_ID + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:26]


def is_id(text: object) -> bool:
    """Whether a value has the form of an id."""
    return isinstance(text, str) and ID.fullmatch(text) is not None


def next_number(last: int) -> int:
    """Return the number after `last`: the time in microseconds, or one more than `last` where the clock went back."""
    return max(last + 1, time.time_ns() // 1000)
