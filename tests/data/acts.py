"""Functions that tests run in other processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def act(item: int) -> int:
    """Return the square of an item; some items fail, each in its own way."""
    if item == 3:
        raise ValueError("three is refused")
    if item == 4:
        raise KeyError("four")
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 6:
        raise FileNotFoundError(2, "No such file or directory", "six")
    return item * item


def prepare_and_die(folder: str, out: str, videos: int) -> None:
    """Prepare a folder, and kill this process when `videos` videos are done."""
    from longtake.data.prepare import Request, prepare

    def progress(done: int, of: int, line: str) -> None:
        if done == videos:
            os.kill(os.getpid(), signal.SIGKILL)

    prepare(Path(folder), Path(out), Request(shots="none"), progress)
