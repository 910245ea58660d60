"""Names are taken by one process alone."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from shutil import rmtree

import pytest

from longtake.runs.claim import State, claim, set_aside, state_of
from longtake.runs.files.errors import RunError
from longtake.runs.files.output_record import FinishedFile, OutputRecord, load
from longtake.runs.target import target_of


def names(folder, name="x"):
    return lambda number: target_of(folder / name).named(f"-{number:03d}")


def record(seed=0, words=("generate", "a")):
    return OutputRecord((*words, f"--seed={seed}"), "", seed, FinishedFile())


def test_a_name_that_is_taken_is_in_use_until_it_is_released(tmp_path):
    (one,) = claim(names(tmp_path), [record()], anew=True)
    assert state_of(one.target, record()) is State.IN_USE
    with pytest.raises(RunError, match="by another process"):
        claim(names(tmp_path), [record()], anew=False)
    (two,) = claim(names(tmp_path), [record()], anew=True)
    assert [one.number, two.number] == [1, 2]
    one.release()
    two.release()
    assert list(tmp_path.iterdir()) == []


def test_the_names_of_several_videos_follow_each_other(tmp_path):
    (tmp_path / "x-002").mkdir()
    (tmp_path / "x-002" / "diary.txt").write_text("mine")
    claims = claim(names(tmp_path), [record(0), record(1)], anew=True)
    assert [one.number for one in claims] == [3, 4] and load(tmp_path / "x-004").seed == 1
    for one in claims:
        one.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-002"]


def test_a_run_that_is_replaced_comes_back_if_nothing_begins(tmp_path):
    (tmp_path / "x-001").mkdir()
    (tmp_path / "x-001" / "run.json").write_text("old")
    aside = set_aside(names(tmp_path)(1))
    for begun in (False, True):
        (one,) = claim(names(tmp_path), [record()], anew=True)
        one.replaced = aside
        if begun:
            one.begin()
        one.release()
        assert aside.exists() is False
        if not begun:
            assert (tmp_path / "x-001" / "run.json").read_text() == "old"
            aside = set_aside(names(tmp_path)(1))
    assert [path.name for path in tmp_path.iterdir()] == ["x-001"] and load(tmp_path / "x-001") is not None


def killed(tmp_path, **finished):
    """Replace a run, as a process does that is killed before the new run begins; return the claim and the old run."""
    (tmp_path / "x-001").mkdir()
    (tmp_path / "x-001" / "run.json").write_text("old")
    aside = set_aside(names(tmp_path)(1))
    wanted = replace(record(), finished=FinishedFile(replace=True))
    (one,) = claim(names(tmp_path), [wanted], anew=False)
    one._lock.close()
    return wanted, aside


def test_a_run_that_is_replaced_outlasts_processes_that_are_killed_before_the_new_one_begins(tmp_path):
    wanted, aside = killed(tmp_path)
    for _ in range(2):
        assert set_aside(names(tmp_path)(1)) == aside and (aside / "run.json").read_text() == "old"
        (one,) = claim(names(tmp_path), [wanted], anew=False)
        one._lock.close()
    one.replaced = aside
    one.begin()
    assert [path.name for path in tmp_path.iterdir()] == ["x-001"]


def test_a_run_that_is_replaced_goes_when_its_successor_is_continued(tmp_path):
    _, aside = killed(tmp_path)
    (one,) = claim(names(tmp_path), [record()], anew=False)
    assert one.state is State.STARTED
    assert aside.exists()
    one.begin()
    assert [path.name for path in tmp_path.iterdir()] == ["x-001"]


def test_a_folder_that_is_removed_before_its_run_begins_still_knows_its_file(tmp_path):
    (one,) = claim(names(tmp_path, "x.mp4"), [record()], anew=False)
    rmtree(one.target.folder)
    one.target.folder.mkdir()
    one.begin()
    assert load(one.target.folder) == one.record


def test_a_run_in_use_is_not_removed(tmp_path):
    (one,) = claim(names(tmp_path), [record()], anew=True)
    with pytest.raises(RunError, match="stop it first"):
        set_aside(one.target)
    one.release()


TAKE = """
import sys
from pathlib import Path
from longtake.runs.claim import claim
from longtake.runs.files.output_record import OutputRecord
from longtake.runs.target import target_of
target, record = target_of(Path(sys.argv[1]) / "x"), OutputRecord(("generate", "a", "--seed=0"), "", 0)
claims = [claim(lambda n: target.named(f"-{n:03d}"), [record], anew=True)[0] for _ in range(20)]
print(*(one.number for one in claims), flush=True)
sys.stdin.read()
"""


@pytest.mark.long
def test_processes_at_once_never_take_the_same_name(tmp_path):
    start = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    processes = [start([sys.executable, "-c", TAKE, str(tmp_path)]) for _ in range(4)]
    numbers = [int(word) for process in processes for word in process.stdout.readline().split()]
    for process in processes:
        process.communicate()
    assert sorted(numbers) == list(range(1, 81))
