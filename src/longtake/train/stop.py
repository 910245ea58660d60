"""Ctrl-C and SIGTERM: the loop ends its step, saves, and stops; a second signal does not wait."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from longtake.reel.stop import SIGNALS, Stopped


class Stop:
    """Within the block, the first signal is only noted in `wished`. Outside of the main thread it does nothing."""

    def __init__(self) -> None:
        self.wished = 0

    def __enter__(self) -> Stop:
        main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS} if main else {}
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wished = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def raised(self) -> Stopped:
        """What to raise when the wish has been fulfilled (another rank may have had it)."""
        return Stopped(self.wished or signal.SIGTERM)
