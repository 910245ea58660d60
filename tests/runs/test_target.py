"""What --output names, and the way back from a finished file to its run."""

import os
from pathlib import Path

import pytest

from longtake.core.errors import SettingsError
from longtake.core.platform import cache_folder
from longtake.runs.target import expect_run, is_other_folder, target_of, video_to_extend


def test_the_name_of_a_video_is_a_file_and_every_other_name_a_folder(tmp_path):
    for name in ("x.mp4", "x.MOV", "x.gif", "x.webm"):
        target = target_of(tmp_path / name)
        assert target.file == tmp_path / name and target.folder == tmp_path / "x.run"
    for name in ("x", "take.2", "v1.5"):
        assert target_of(tmp_path / name).file is None
    assert target_of(tmp_path / "x", as_file=True).file == tmp_path / "x.mp4"
    (tmp_path / "old.mp4").mkdir()
    assert target_of(tmp_path / "old.mp4").folder == tmp_path / "old.mp4"


def test_a_video_that_cannot_be_written_is_answered_with_those_that_can(tmp_path):
    with pytest.raises(SettingsError, match=r"\.avi files cannot be written, but \.mp4"):
        target_of(tmp_path / "x.avi")


def test_a_file_is_no_folder_for_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is neither a folder nor the name of a video"):
        target_of(tmp_path / "notes.txt")


def test_a_name_without_its_ending_is_answered_with_the_run(tmp_path):
    (tmp_path / "x.run").mkdir()
    (tmp_path / "x.run" / "run.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"there is no .*x: .*x\.run is a run directory"):
        expect_run(tmp_path / "x")


def test_a_device_and_a_link_that_leads_nowhere_are_no_folders(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (Path(os.devnull), tmp_path / "link"):
        with pytest.raises(SettingsError, match="is neither a folder nor the name of a video"):
            target_of(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other limits, see tests/core/test_windows.py")
@pytest.mark.parametrize("name, problem", [("x" * 240 + ".mp4", "has 244 bytes"), ("é" * 120, "has 240 bytes")])
def test_a_name_is_so_short_that_longtake_can_add_to_it(tmp_path, name, problem):
    with pytest.raises(SettingsError, match=problem):
        target_of(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_no_text_is_answered_in_plain_words(tmp_path):
    with pytest.raises(SettingsError, match=r"bad\?\.mp4 is not UTF-8 text"):
        target_of(tmp_path / "bad\udcff.mp4")


def test_a_finished_file_stands_for_its_run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "x.run").mkdir()
    (tmp_path / "x.run" / "run.json").write_text("{}")
    assert (
        expect_run(tmp_path / "x.mp4")
        == expect_run(tmp_path / "x.run" / "video.mp4")
        == expect_run(tmp_path / "x.run")
        == tmp_path / "x.run"
    )
    with pytest.raises(SettingsError, match=r"no run of .*y\.mp4 \(looked for .*y\.run\)"):
        expect_run(tmp_path / "y.mp4")
    away = target_of(tmp_path / "y.mp4", keep=False).folder
    away.mkdir(parents=True)
    (away / "run.json").write_text("{}")
    assert expect_run(tmp_path / "y.mp4") == away and cache_folder() in away.parents


def test_a_run_and_an_animation_are_extended_from_the_video_of_the_run(tmp_path):
    (tmp_path / "x.run").mkdir()
    for name in ("x.run/run.json", "x.run/video.mp4", "x.gif", "x.mp4"):
        (tmp_path / name).touch()
    own = tmp_path / "x.run/video.mp4"
    assert video_to_extend(tmp_path / "x.gif") == video_to_extend(tmp_path / "x.run") == own
    assert video_to_extend(tmp_path / "x.mov") == own
    assert video_to_extend(tmp_path / "x.mp4") == tmp_path / "x.mp4"
    assert video_to_extend(Path("none.mp4")) == Path("none.mp4")


def test_a_folder_of_videos_is_no_run(tmp_path):
    assert not is_other_folder(tmp_path) and not is_other_folder(tmp_path / "none")
    (tmp_path / "LOCK").touch()
    assert not is_other_folder(tmp_path)
    (tmp_path / "film.mp4").touch()
    assert is_other_folder(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has its own folder")
def test_the_cache_lies_where_the_system_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "longtake"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    assert cache_folder() == tmp_path / ".cache" / "longtake"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "longtake"
