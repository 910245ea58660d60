"""The command line. Nothing heavy is imported before a command needs it, so that help and errors are instant."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from longtake.cli.app import overview, run_command
from longtake.cli.failures import BAD_INPUT, FAILED, INTERRUPTED, explained, is_expected
from longtake.cli.notes import printed_notes
from longtake.cli.registry import COMMANDS
from longtake.core.process.standard_streams import StandardStreams, protect_streams
from longtake.core.version import VERSION

STARTED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"  # the variable that torchrun sets in every process that it starts


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with one of the codes of `longtake.cli.failures.EXIT_CODES`."""
    streams = protect_streams()
    for each in (getattr(signal, name, signal.SIGTERM) for name in ("SIGTERM", "SIGHUP", "SIGBREAK")):
        if signal.getsignal(each) is not signal.SIG_IGN:  # as under nohup
            signal.signal(each, _stop)
    words = list(sys.argv[1:] if arguments is None else arguments)
    code = run(words)
    code = code or _code_of_lost_output(words, streams)
    if STARTED_BY_TORCHRUN in os.environ:
        _exit_at_once(code)
    sys.exit(code)


def _stop(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM, SIGHUP and Ctrl-Break do what Ctrl-C does, in every command and from its first moment."""
    from longtake.core.platform import stop

    stop(number, frame)


def _code_of_lost_output(words: list[str], streams: StandardStreams) -> int:
    """Return 1 for a command whose result is what it prints, if that could not be written; else 0."""
    lost = streams.lost_output
    prints_alone = {"--help", "-h", "--dry-run"} & set(words)
    if lost is None or (not prints_alone and any(COMMANDS[name].writes for name in _named(words))):
        return 0
    if lost.errno != errno.EPIPE:  # a reader that left, such as `head`, wanted no more
        print("longtake: what this command printed is incomplete", file=sys.stderr)
    return FAILED


def _exit_at_once(code: int) -> NoReturn:
    """End one of several training processes without tearing the interpreter down.

    PyTorch keeps gloo's threads alive through the sharding caches of DTensor, even after `destroy_process_group`. A
    thread that still holds a tensor at teardown aborts the process, and torchrun calls a finished training failed
    (pytorch/pytorch#179291).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code. Expected errors are printed as one sentence; --debug shows their origin."""
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]
    try:
        with printed_notes():
            return _dispatch(words)
    except KeyboardInterrupt as stop:
        return getattr(stop, "code", INTERRUPTED)
    except Exception as error:
        if debug or not is_expected(error):
            raise
        sentence, code = explained(error)
        print(f"longtake: {sentence}", file=sys.stderr)
        return code


def _dispatch(words: list[str]) -> int:
    """Run the command that the first word, or the first two, name."""
    if words in ([], ["--help"], ["-h"]):
        print(overview(COMMANDS))
        return 0
    if words == ["--version"]:
        print(VERSION)
        return 0
    if words[0] in ("--install-completion", "--show-completion", "__complete"):
        from longtake.cli.completion import complete, completion

        return complete(words[1:]) if words[0] == "__complete" else completion(words)
    for name in _named(words):
        return run_command(name, COMMANDS, words[len(name.split()) :])
    if any(name.split()[0] == words[0] for name in COMMANDS):  # the first word of commands of two words
        print(overview(COMMANDS, words[0]))
        return 0 if words[1:] in (["--help"], ["-h"]) else BAD_INPUT
    return run_command(words[0], COMMANDS, words[1:])  # raises InputError with the nearest command


def _named(words: list[str]) -> list[str]:
    """Return the command that the first two words, or the first, name; none if they name none."""
    return [name for count in (2, 1) if (name := " ".join(words[:count])) in COMMANDS][:1]
