"""`longtake clean` removes the runs that were chosen, what longtake wrote of them, and nothing else."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from longtake.cli import run
from longtake.core.errors import SettingsError
from longtake.core.units import parse_bytes, parse_duration
from longtake.runs.cleaning import Choice, State, find_runs, remove
from longtake.runs.files.layout import Layout, locked

DAY = 86400


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("finished") / "r"
    assert run(["generate", "a", "--model", "clock", "--seconds", "2", "-o", str(out)]) == 0
    return out


@pytest.fixture
def place(tmp_path, finished) -> Path:
    """A folder with runs of several ages: old and mid are finished, new is, and half is not."""
    for name, days in (("old", 40), ("deep/mid", 10), ("new", 0), ("half", 50)):
        folder = tmp_path / "out" / name
        shutil.copytree(finished, folder)
        if name == "half":
            lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
            (folder / "journal.jsonl").write_bytes(b"".join(lines[:-1]))
        for path in folder.rglob("*"):
            os.utime(path, (time.time() - days * DAY,) * 2)
    return tmp_path / "out"


def left(place: Path) -> set[str]:
    """The runs that are left."""
    return {str(one.folder.relative_to(place)) for one in find_runs(place)}


def test_runs_are_listed_and_nothing_is_removed_without_a_choice(place, capsys):
    assert run(["clean", str(place)]) == 0
    said = capsys.readouterr().out
    assert "3 finished runs" in said and "unfinished" in said and "Nothing was removed" in said
    assert left(place) == {"old", "deep/mid", "new", "half"}


@pytest.mark.parametrize(
    ("words", "stay"),
    [
        (["--older-than", "30d"], {"deep/mid", "new", "half"}),
        (["--older-than", "1w"], {"new", "half"}),
        (["--older-than", "1w", "--keep-last", "2"], {"deep/mid", "new", "half"}),
        (["--keep-last", "1"], {"new", "half"}),
        (["--older-than", "30d", "--unfinished"], {"deep/mid", "new"}),
        (["--larger-than", "1GB"], {"old", "deep/mid", "new", "half"}),
        (["--larger-than", "1kB"], {"half"}),
    ],
)
def test_runs_are_chosen_by_age_size_and_number(place, words, stay):
    assert run(["clean", str(place), *words, "--yes"]) == 0
    assert left(place) == stay
    assert {path.name for path in place.iterdir()} >= {name.split("/")[0] for name in stay}


def test_snapshots_alone_are_removed_and_the_video_can_still_be_verified(place):
    assert run(["clean", str(place), "--older-than", "30d", "--snapshots", "--yes"]) == 0
    assert not list((place / "old" / "snapshots").iterdir()) and list((place / "new" / "snapshots").iterdir())
    assert list((place / "half" / "snapshots").iterdir())
    assert run(["verify", str(place / "old")]) == 0
    assert run(["clean", str(place), "--older-than", "30d", "--snapshots", "--unfinished", "--yes"]) == 2


def test_a_run_that_is_being_generated_is_never_removed(place):
    with locked(Layout(place / "half")), locked(Layout(place / "old")):
        states = {one.folder.name: one.state for one in find_runs(place)}
        assert states == {"old": State.RUNNING, "mid": State.FINISHED, "new": State.FINISHED, "half": State.RUNNING}
        assert run(["clean", str(place), "--older-than", "0s", "--unfinished", "--yes"]) == 0
    assert left(place) == {"old", "half"}


def test_a_run_that_is_taken_between_the_list_and_the_answer_is_left_alone(place):
    chosen = Choice(older=30 * DAY).of(find_runs(place))
    with locked(Layout(place / "old")):
        assert [remark.startswith("left alone") for _, remark in remove(chosen)] == [True]
    assert (place / "old" / "video.mp4").exists()


def test_only_what_longtake_wrote_is_removed(place, tmp_path, capsys):
    outside = tmp_path / "outside"
    shutil.copytree(place / "old", outside)
    old = place / "old"
    (old / "notes.txt").write_text("mine")
    (old / "media" / "mine.wav").write_text("mine")
    (old / "snapshots" / "w000099.json").symlink_to(outside / "run.json")
    (old / "inputs").symlink_to(outside / "media")
    (place / "link").symlink_to(outside)
    (place / "other").mkdir()
    (place / "other" / "run.json").write_text('{"name": "of another program"}')
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    assert run(["clean", str(place), "--older-than", "0s", "--yes"]) == 0
    assert "stays, since longtake did not write it" in capsys.readouterr().out
    assert left(place) == {"half"}
    assert (old / "notes.txt").exists() and (old / "media" / "mine.wav").exists() and not (old / "video.mp4").exists()
    assert (place / "other" / "run.json").exists() and (place / "link").is_symlink()
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


def test_a_video_file_beside_its_run_stays(tmp_path, capsys):
    words = ["generate", "a", "--model", "clock", "--seconds", "2", "-o", str(tmp_path / "x.mp4")]
    assert run(words) == 0
    (usage,) = find_runs(tmp_path)
    assert usage.kept_at == tmp_path / "x.mp4"
    assert run(["clean", str(tmp_path), "--older-than", "0s", "--yes"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


def test_a_run_of_a_job_queue_is_left_to_its_server(place):
    (place / "new" / "job").mkdir()
    (place / "new" / "job" / "job.json").touch()
    assert {one.folder.name: one.state for one in find_runs(place)}["new"] is State.QUEUED
    assert run(["clean", str(place), "--older-than", "0s", "--unfinished", "--yes"]) == 0
    assert left(place) == {"new"}


def test_removal_asks_first(place, monkeypatch, capsys):
    class Terminal:
        def isatty(self):
            return True

    assert run(["clean", str(place), "--older-than", "30d"]) == 2
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Terminal())
    for answer, stay in (("n", 4), ("", 4), ("y", 3)):
        monkeypatch.setattr("builtins.input", lambda prompt="", answer=answer: answer)
        assert run(["clean", str(place), "--older-than", "30d"]) == 0
        assert len(left(place)) == stay


def test_a_removal_that_was_interrupted_is_completed_by_the_next(place, monkeypatch):
    unlink, count = Path.unlink, []

    def short(self, missing_ok=False):
        count.append(self)
        if len(count) > 4:
            raise KeyboardInterrupt
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", short)
        assert run(["clean", str(place), "--older-than", "30d", "--yes"]) == 130
    assert "old" in left(place)
    assert run(["clean", str(place), "--older-than", "0s", "--yes"]) == 0
    assert left(place) == {"half"}


@pytest.mark.parametrize(
    "words", [["--yes"], ["--keep-last", "0"], ["--older-than", "soon"], ["--larger-than", "2 dogs"]]
)
def test_what_makes_no_sense_is_refused(place, words):
    assert run(["clean", str(place), *words]) == 2
    assert run(["clean", str(place / "nowhere")]) == 2


def test_sizes_and_times_are_read_as_people_write_them():
    assert [parse_bytes(text, "-") for text in ("2GB", "1.5 kb", "1MiB", "7", "3g")] == [
        2 * 10**9,
        1500,
        1 << 20,
        7,
        3 * 10**9,
    ]
    times = ("30d", "12h", "2 weeks", "90s", "1.5m", "1y")
    assert [parse_duration(text, "-") for text in times] == [30 * DAY, DAY / 2, 14 * DAY, 90, 90, 365 * DAY]
    for text in ("", "d", "1.2.3d", "-1d", "d30", "nan d"):
        with pytest.raises(SettingsError):
            parse_duration(text, "--older-than")


def test_the_trash_of_a_server_is_emptied_when_it_is_chosen(place, tmp_path, capsys):
    trash, kept = place / ".longtake" / "trash", left(place)
    shutil.copytree(place / "old", trash / "video_1" / "media")
    (trash / "link").symlink_to(place / "new", target_is_directory=True)
    assert run(["clean", str(place)]) == 0 and "deleted" in capsys.readouterr().out
    assert run(["clean", str(place), "--older-than", "100d", "--yes"]) == 0 and (trash / "video_1").exists()
    assert run(["clean", str(place), "--deleted", "--yes"]) == 0
    assert not (trash / "video_1").exists() and left(place) == kept


def test_a_run_with_a_star_is_no_job_of_a_queue_and_goes_whole(place):
    (place / "new" / "job").mkdir()
    (place / "new" / "job" / "starred").touch()
    found = {one.folder.name: one for one in find_runs(place)}["new"]
    assert found.state is State.FINISHED
    assert [remark for _, remark in remove([found])] == [""]
    assert not (place / "new").exists()
