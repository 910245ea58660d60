"""The command line. Nothing heavy is imported before a command needs it, so that help and errors are instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 failed while running, 2 bad input, 130 stopped by Ctrl-C (143 by SIGTERM)."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run a command; its exit code. Expected errors end in one clear sentence; --debug shows where they came from."""
    from cyclopts import CycloptsError

    from longtake.cli.app import app

    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt as stop:
        return getattr(stop, "code", INTERRUPTED)
    except CycloptsError as error:
        return _say(str(error).strip(), BAD_INPUT)
    except BrokenPipeError:
        return FAILED
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        if not _expected(error):
            raise
        if debug:
            raise
        return _say(_sentence(error), FAILED if _while_running(error) else BAD_INPUT)


def _say(message: str, code: int) -> int:
    print(f"longtake: {message}", file=sys.stderr)
    return code


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _expected(error: Exception) -> bool:
    """Whether its message is meant for the user; anything else is a fault of ours and keeps its traceback."""
    return not isinstance(error, RuntimeError) or type(error).__name__ == "ReelError"


def _while_running(error: Exception) -> bool:
    """Whether the request was fine and something broke while it was carried out."""
    if isinstance(error, RuntimeError):
        cause = error.__cause__
        return type(cause).__name__ == "MediaError" or (
            isinstance(cause, OSError) and not isinstance(cause, PermissionError)
        )
    return isinstance(error, OSError | FloatingPointError)
