"""What the tests let other processes do."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def act(item: int) -> int:
    """The square, but for some items on which things go wrong."""
    if item == 3:
        raise ValueError("three is no good")
    if item == 4:
        raise KeyError("four")
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 6:
        raise FileNotFoundError(2, "No such file or directory", "six")
    return item * item


def prepare_and_die(folder: str, out: str, videos: int) -> None:
    """Prepare a folder, and be killed when so many videos are done."""
    from longtake.data.prepare import Request, prepare

    def watch(done: int, of: int, line: str) -> None:
        if done == videos:
            os.kill(os.getpid(), signal.SIGKILL)

    prepare(Path(folder), Path(out), Request(shots="none"), watch)
