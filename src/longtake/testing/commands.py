"""The contract of a command: its line and its flags describe themselves, its examples parse, and its help needs no torch."""

from __future__ import annotations

import shlex
import subprocess
import sys

from longtake.cli.app import parser
from longtake.cli.registry import COMMANDS

WIDEST = 66  # characters of the sentence in `longtake --help`


def check_command(name: str) -> None:
    """Check the line of a command, that every flag has help, and that its examples can be parsed. Raise AssertionError."""
    command = COMMANDS[name]
    assert command.group, f"the command {name} has no group: name the heading that it is listed under"
    assert command.about.endswith("."), f"{name} is described by {command.about!r}, which is no sentence"
    assert len(command.about) < WIDEST, (
        f"the sentence of {name} has {len(command.about)} characters, not below {WIDEST}"
    )
    app = parser(name, command)
    shown = [argument for argument in app.assemble_argument_collection(parse_docstring=True) if argument.show]
    silent = [argument.name for argument in shown if not argument.parameter.help]
    assert not silent, f"{name} has no help for {', '.join(silent)}: describe it in the docstring under `Args:`"
    for example in command.examples:
        words = shlex.split(example)
        begin = ["longtake", *name.split()]
        assert words[: len(begin)] == begin, f"the example {example!r} does not begin with `longtake {name}`"
        app.parse_args(words[len(begin) :], exit_on_error=False, print_error=False)


def check_help_without_torch(*names: str) -> None:
    """Check in a new process that `longtake --help` and the help of these commands import no torch. Raise AssertionError."""
    calls = [["--help"], *([*name.split(), "--help"] for name in names)]
    code = (
        "import sys; from longtake.cli import run\n"
        f"for words in {calls!r}:\n"
        "    assert run(words) == 0 and 'torch' not in sys.modules, ' '.join(words)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert not done.returncode, f"the help of a command fails or imports torch: {done.stderr.strip().splitlines()[-1]}"
