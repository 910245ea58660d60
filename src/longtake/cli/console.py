"""The console that commands print to."""

from __future__ import annotations

import os

from rich.console import Console

WIDE = 120  # characters of a line in a file or a pipe


def console_of(json: bool = False) -> Console:
    """Return the console of a command. json: a program reads the standard output, so people get the standard error."""
    console = Console(stderr=json, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:  # a file or a pipe has no edge
        console.width = WIDE
    return console
