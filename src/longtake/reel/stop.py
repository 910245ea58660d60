"""Signals: SIGTERM stops a recording as Ctrl-C does, and a second signal does not wait."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The user or the system asked to stop. code: the exit code that a shell expects (130 or 143)."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM raises Stopped, a second one ends the process at once.

    Only the main thread may use it.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    before = [signal.signal(each, stop) for each in SIGNALS]
    try:
        yield
    finally:
        for each, handler in zip(SIGNALS, before):
            signal.signal(each, handler)
