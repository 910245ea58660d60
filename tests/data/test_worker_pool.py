"""One item may fail or kill its process; the others continue."""

import pytest

from longtake.data.worker_pool import Failed, parallel_map
from tests.data.acts import act


@pytest.mark.parametrize("jobs", [0, pytest.param(2, marks=pytest.mark.long)])
def test_every_item_is_processed_once(jobs):
    items = [1, 2, 3, 4, 6, 7, 8, 9] + ([5] if jobs else [])
    found = dict(parallel_map(act, items, jobs))
    assert {item: result for item, result in found.items() if not isinstance(result, Failed)} == {
        n: n * n for n in (1, 2, 7, 8, 9)
    }
    assert found[3] == Failed("three is refused") and found[4] == Failed("KeyError: 'four'")
    assert found[6] == Failed("No such file or directory")
    assert len(found) == len(items)
    if jobs:
        assert "SIGKILL" in found[5].why


@pytest.mark.long
def test_the_last_process_may_die_too():
    found = dict(parallel_map(act, [5, 2], 1))
    assert found[2] == 4 and isinstance(found[5], Failed)
    assert list(parallel_map(act, [], 3)) == []


@pytest.mark.long
def test_leaving_the_loop_ends_the_processes():
    for _item, _result in parallel_map(act, range(10, 1000), 2):
        break
    import multiprocessing

    assert not multiprocessing.active_children()
