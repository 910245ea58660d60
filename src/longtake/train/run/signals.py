"""Ctrl-C, SIGTERM and a lost terminal in training: the loop finishes its step, saves and stops; a second signal stops at once.

Signals within a second count as one: whoever stops a whole group of processes reaches a rank twice, since torchrun
forwards what it gets.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from longtake.core.platform import HANGUP, Stopped, stop_signals

ONE_REQUEST = 1.0  # seconds


class StopRequest:
    """Context manager in which the first signal only sets `requested`. Outside of the main thread it does nothing."""

    def __init__(self) -> None:
        self.requested = 0
        self._since = 0.0

    def __enter__(self) -> StopRequest:
        main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, self._note) for number in stop_signals()} if main else {}
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = number, time.monotonic()
        elif number != HANGUP and time.monotonic() - self._since > ONE_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def stopped(self) -> Stopped:
        """Return the exception that ends the run (another rank may have got the signal)."""
        return Stopped(self.requested or signal.SIGTERM)
