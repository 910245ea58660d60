"""Ctrl-C and SIGTERM: the loop ends its step, saves, and stops; a second signal does not wait.

Signals within a second are one wish: whoever stops a whole group of processes reaches a rank twice, since torchrun passes
on what it gets.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from longtake.reel.stop import SIGNALS, Stopped

ONE_WISH = 1.0  # seconds


class Stop:
    """Within the block, the first signal is only noted in `wished`. Outside of the main thread it does nothing."""

    def __init__(self) -> None:
        self.wished = 0
        self._since = 0.0

    def __enter__(self) -> Stop:
        main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS} if main else {}
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.wished:
            self.wished, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > ONE_WISH:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def raised(self) -> Stopped:
        """What to raise when the wish has been fulfilled (another rank may have had it)."""
        return Stopped(self.wished or signal.SIGTERM)
