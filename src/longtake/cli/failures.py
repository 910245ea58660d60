"""How a command that fails ends: the sentence for the user, and the exit code."""

from __future__ import annotations

from longtake.core.errors import LongtakeError, MediaError, NonFiniteError
from longtake.core.process.memory_errors import ADVICE, out_of_memory

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
EXIT_CODES = {
    "0": "done",
    "1": "something failed while the command ran: a full disk, too little memory, a damaged file; or, of a command that "
    "only prints, what it printed could not be written",
    "2": "the request cannot be carried out as given; the message says what to change",
    "129": "stopped because the terminal or the connection was lost (SIGHUP); `longtake resume` continues",
    "130": "stopped by Ctrl-C; `longtake resume` continues",
    "137": "killed by the system, mostly because a container or the machine ran out of memory; `longtake resume` continues",
    "143": "stopped by SIGTERM; `longtake resume` continues",
}
EXPECTED = (LongtakeError, ValueError, OSError, FloatingPointError)


def is_expected(error: Exception) -> bool:
    """Whether an error is one that a sentence explains; all others are faults of the program, and show their traceback."""
    return isinstance(error, EXPECTED) or out_of_memory(error)


def explained(error: Exception) -> tuple[str, int]:
    """Return the sentence for an expected error, and the exit code."""
    if out_of_memory(error) and not isinstance(error, LongtakeError):
        return f"this needs more memory than there is: {ADVICE}", FAILED
    return _sentence(error), FAILED if _while_running(error) else BAD_INPUT


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _while_running(error: Exception) -> bool:
    """Whether the request was fine, and the disk, the memory, a file or a number failed while it was carried out."""
    if out_of_memory(error):
        return True
    if isinstance(error, RuntimeError):
        cause = error.__cause__
        return isinstance(cause, MediaError | OSError | NonFiniteError) and not isinstance(cause, PermissionError)
    return isinstance(error, OSError | FloatingPointError)
