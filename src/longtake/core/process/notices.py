"""Notices: what a user should know about an input that is used all the same, as warnings and in the log of Python."""

from __future__ import annotations

import logging
import sys
import warnings
from types import FrameType

PACKAGE = __name__.partition(".")[0]
LOGGER = logging.getLogger(PACKAGE)
LOGGER.addHandler(logging.NullHandler())  # a program that embeds the package decides what is logged, and where


class InputWarning(UserWarning):
    """An input was changed, cut or left out in part; the message says which and how."""


def notice(message: str) -> None:
    """Tell the user one full sentence: as an `InputWarning` at the line that called the package, and in the log "longtake".

    The command line prints it once, as a note.
    """
    LOGGER.warning("%s", message)
    warnings.warn(message, InputWarning, stacklevel=_levels_to_caller(sys._getframe(1)))


def _levels_to_caller(frame: FrameType | None) -> int:
    """Return the stack level of the nearest code outside of the package; of the package's own caller if there is none."""
    level = 2
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] != PACKAGE:
            return level
        frame, level = frame.f_back, level + 1
    return 3
