"""Every registered command keeps the contract of commands."""

import pytest

from longtake.cli.registry import COMMANDS
from longtake.testing.commands import check_command, check_help_without_torch


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_keeps_its_contract(name):
    check_command(name)


def test_help_needs_no_torch():
    check_help_without_torch(*COMMANDS)
