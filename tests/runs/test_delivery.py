"""The finished file of a run: a second name of video.mp4, or another kind, written completely or not at all."""

import errno
import os

import pytest

from longtake.cli import run
from longtake.runs.files import durable, output_record

ASKED = ["generate", "a clock", "--model", "clock", "--seconds", "1", "-o", "x.mp4"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_system_without_second_names_gets_a_copy(folder, monkeypatch):
    def no_links(*paths):
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert run(ASKED) == 0
    assert not (folder / "x.mp4").samefile(folder / "x.run/video.mp4")
    assert (folder / "x.mp4").read_bytes() == (folder / "x.run/video.mp4").read_bytes()


@pytest.mark.parametrize("before", ["move", "save"])
def test_a_process_that_ends_while_it_delivers_leaves_a_whole_file_or_none(folder, monkeypatch, before):
    """It ends when the file is complete: before output.json says so, or before it has its name."""

    def end(*all):
        raise SystemExit(9)

    moved = durable.move
    with monkeypatch.context() as patch:
        if before == "move":  # of the finished file; those of the run have other names
            patch.setattr(durable, "move", lambda part, path: end() if path.name == "x.mp4" else moved(part, path))
        else:
            patch.setattr(output_record, "save", end)
        with pytest.raises(SystemExit):
            run(ASKED)
    assert not (folder / "x.mp4").exists()
    assert run(["resume", "x.mp4"]) == 0
    assert (folder / "x.mp4").samefile(folder / "x.run/video.mp4")
    assert sorted(path.name for path in folder.iterdir()) == ["x.mp4", "x.run"]


def test_an_endless_video_is_delivered_as_far_as_it_is(folder, monkeypatch):
    import longtake.cli.progress as progress
    from longtake.core.platform import Stopped
    from longtake.runs import SegmentWritten

    saw = progress.LineOutput.show

    def show(self, event):
        saw(self, event)
        if isinstance(event, SegmentWritten) and event.index % 7 == 6 and not event.repeated:
            raise Stopped(2)

    monkeypatch.setattr(progress.LineOutput, "show", show)
    assert run(["generate", "a clock", "--model", "clock", "--endless", "-o", "x.mp4", "--codec", "hevc"]) == 130
    first = (folder / "x.mp4").stat().st_size
    assert run(["resume", "x.mp4"]) == 130
    assert (folder / "x.mp4").stat().st_size > first
    assert sorted(path.name for path in folder.iterdir()) == ["x.mp4", "x.run"]
