"""Files that several processes write at once, and a name that is whole or not there."""

import json
import multiprocessing

import pytest

from longtake.train.run import checkpoint
from longtake.train.run.checkpoint import replaced, write_json


def write_often(path, number):
    for _ in range(50):
        write_json(path, {"writer": number})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks beside threads
def test_two_processes_may_write_one_file(tmp_path):
    path, spawn = tmp_path / "cache.json", multiprocessing.get_context("fork")
    writers = [spawn.Process(target=write_often, args=(path, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert json.loads(path.read_text())["writer"] in (0, 1) and len(list(tmp_path.iterdir())) == 1


def test_checkpoints_of_a_million_steps_are_found(tmp_path):
    for step in (999_999, 1_000_000, 1_000_200):
        checkpoint.save(tmp_path, step, {}, {"step": step})
    assert checkpoint.newest_checkpoint(tmp_path).name == "step-1000200"
    (tmp_path / "step-1000400.part").mkdir()
    checkpoint.prune(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"step-1000000", "step-1000200"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(path := tmp_path / "a.json", 1)
    with pytest.raises(RuntimeError), replaced(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == 1 and list(tmp_path.iterdir()) == [path]
