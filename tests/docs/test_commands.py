"""Every command in the README and the docs is marked (see `blocks.py`), and the command line understands it."""

import pytest

from longtake.cli.app import parser
from longtake.cli.registry import COMMANDS
from tests.docs.blocks import blocks, kind


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_every_block_is_marked(block):
    assert kind(block) in ("run", "parse", "skip"), f"{block}: put <!-- test: run | parse | skip, REASON --> before it"
    assert kind(block) != "skip" or ", " in (block.mark or ""), f"{block}: say why it is skipped"


@pytest.mark.parametrize("block", [b for b in blocks() if kind(b) in ("run", "parse")], ids=str)
def test_the_command_line_understands_every_command(block):
    for arguments in block.commands:
        name = next((" ".join(arguments[:n]) for n in (2, 1) if " ".join(arguments[:n]) in COMMANDS), None)
        assert name, f"{block}: there is no command {arguments[0]!r}"
        rest = arguments[len(name.split()) :]
        if "--help" not in rest:
            parser(name, COMMANDS[name]).parse_args(rest, exit_on_error=False, print_error=False)
