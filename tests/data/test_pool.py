"""One item may fail or take its process down; the others go on."""

import pytest

from longtake.data.pool import Failed, spread
from tests.data.acts import act


@pytest.mark.parametrize("jobs", [0, 2])
def test_every_item_is_done_once(jobs):
    items = [1, 2, 3, 4, 6, 7, 8, 9] + ([5] if jobs else [])
    found = dict(spread(act, items, jobs))
    assert {item: result for item, result in found.items() if not isinstance(result, Failed)} == {
        n: n * n for n in (1, 2, 7, 8, 9)
    }
    assert found[3] == Failed("three is no good") and found[4] == Failed("KeyError: 'four'")
    assert found[6] == Failed("No such file or directory")
    assert len(found) == len(items)
    if jobs:
        assert "SIGKILL" in found[5].why


def test_the_last_process_may_die_too():
    found = dict(spread(act, [5, 2], 1))
    assert found[2] == 4 and isinstance(found[5], Failed)
    assert list(spread(act, [], 3)) == []


def test_leaving_early_ends_the_processes():
    for _item, _result in spread(act, range(10, 1000), 2):
        break
    import multiprocessing

    assert not multiprocessing.active_children()
