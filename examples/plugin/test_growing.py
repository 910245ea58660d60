"""The strategy and the command keep the contracts that longtake ships: run `pytest` in this folder after `pip install -e .`"""

import pytest

from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import make_plan
from longtake.testing.commands import check_command, check_help_without_torch
from longtake.testing.strategies import check_case, check_statistics, strategy_cases


@pytest.mark.parametrize("case", strategy_cases("growing"), ids=str)
def test_the_contract(case):
    check_case(case)


def test_the_statistics():
    check_statistics("growing")


def test_the_command():
    check_command("growing")
    check_help_without_torch("growing")


def test_windows_double():
    windows = make_plan("growing", context=2).windows(None, 4, Limits(max_latent_frames=12))
    assert [len(next(windows).frames) for _ in range(6)] == [1, 3, 6, 10, 12, 12]
