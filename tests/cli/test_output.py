"""Where videos go: the file that --output names, counted names, the same command twice, variations."""

from __future__ import annotations

import json
import math
import shlex
import struct
import subprocess
import sys
import wave

import av
import pytest

from longtake.cli import run
from longtake.runs.files.manifest import manifest_of

CLOCK = ["--model", "clock", "--seconds", "1"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def sound(folder):
    """A file of three seconds of sound."""
    with wave.open(str(folder / "tone.wav"), "w") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(struct.pack("<h", int(8000 * math.sin(i / 3))) for i in range(24000)))
    return folder / "tone.wav"


@pytest.fixture
def stop_after(monkeypatch):
    """Stop every command after so many segments in all, as Ctrl-C does; None: no more."""
    import longtake.cli.progress as progress
    from longtake.core.platform import Stopped
    from longtake.runs import SegmentWritten

    left, saw = [math.inf], progress.LineOutput.show

    def show(self, event):
        saw(self, event)
        left[0] -= isinstance(event, SegmentWritten)
        if left[0] <= 0:
            raise Stopped(2)

    def after(segments):
        left[0] = math.inf if segments is None else segments

    monkeypatch.setattr(progress.LineOutput, "show", show)
    return after


def generate(capsys, *words, code=0):
    """Generate a second of a clock; return what was printed."""
    given = [*CLOCK[:2], *words] if "--seconds" in words else [*CLOCK, *words]
    assert run(["generate", "a clock", *given]) == code
    said = capsys.readouterr()
    return said.out + said.err


def tracks(path):
    """The codec of the pictures, and of the sound if there is one."""
    with av.open(str(path)) as file:
        return [stream.codec_context.name for stream in file.streams]


def test_a_file_name_is_that_file(capsys, folder):
    said = generate(capsys, "-o", "out/x.mp4")
    assert (folder / "out/x.mp4").samefile(folder / "out/x.run/video.mp4") and "out/x.mp4" in said
    for command in (["verify", "--no-regenerate"], ["resume"], ["prompts"]):
        assert run([*command[:1], "out/x.mp4", *command[1:]]) == 0
    assert run(["extend", "out/x.mp4", "a clock", *CLOCK, "-o", "more.mp4"]) == 0
    assert manifest_of(folder / "more.run").frames == 48


def test_a_folder_name_stays_a_folder(capsys, folder):
    generate(capsys, "-o", "out/v1.5")
    (folder / "old.mp4").mkdir()
    generate(capsys, "-o", "old.mp4")
    for name in ("out/v1.5", "old.mp4"):
        assert (folder / name / "video.mp4").is_file()


def test_the_same_command_twice_is_done_at_once_and_another_one_takes_the_next_name(capsys, folder):
    generate(capsys, "-o", "x.mp4")
    before = (folder / "x.mp4").stat()
    assert "--seed random" in generate(capsys, "-o", "x.mp4")
    assert (folder / "x.mp4").stat().st_mtime_ns == before.st_mtime_ns and not (folder / "x-2.mp4").exists()
    assert "is another one, which stays" in generate(capsys, "-o", "x.mp4", "--seed", "3")
    assert manifest_of(folder / "x-2.run").seed == 3
    generate(capsys, "-o", "x.mp4", "--seed", "5", "--overwrite")
    assert manifest_of(folder / "x.run").seed == 5 and (folder / "x.mp4").samefile(folder / "x.run/video.mp4")


def test_the_same_video_becomes_other_files_without_being_generated_again(capsys, folder, monkeypatch):
    import longtake.cli.generation.generate_videos as make

    generate(capsys, "-o", "x.mp4")
    monkeypatch.setattr(make, "load", None)  # no model is loaded
    for name, codecs in (("x.mov", ["h264"]), ("x.mkv", ["h264"]), ("x.webm", ["libdav1d"]), ("x.gif", ["gif"])):
        generate(capsys, "-o", name)
        assert tracks(folder / name) == codecs
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["x.run"]


def test_an_unfinished_run_goes_on_with_the_same_command(capsys, folder, stop_after):
    stop_after(2)
    assert "longtake resume x.run" in generate(capsys, "--seconds", "5", "-o", "x.mp4", code=130)
    stop_after(None)
    assert "goes on" in generate(capsys, "--seconds", "5", "-o", "x.mp4")
    generate(capsys, "--seconds", "5", "-o", "whole")
    assert (folder / "x.mp4").read_bytes() == (folder / "whole/video.mp4").read_bytes()


def test_a_file_that_is_not_ours_is_never_replaced(capsys, folder):
    (folder / "x.mp4").write_text("a film")
    generate(capsys, "-o", "x.mp4")
    generate(capsys, "-o", "y.mp4")
    (folder / "y.mp4").unlink()
    (folder / "y.mp4").write_text("another film")
    assert "y-2.mp4" in generate(capsys, "-o", "y.mp4")
    assert (folder / "x.mp4").read_text() == "a film" and (folder / "y.mp4").read_text() == "another film"
    assert tracks(folder / "x-2.mp4") == tracks(folder / "y-2.mp4") == ["h264"]


def test_overwrite_removes_no_folder_with_other_files(capsys, folder):
    generate(capsys, "-o", "x.mp4")
    (folder / "x.run/diary.txt").write_text("mine")
    assert "diary.txt" in generate(capsys, "-o", "x.mp4", "--seed", "3", "--overwrite", code=2)
    assert (folder / "x.run/video.mp4").is_file()


def test_overwrite_removes_nothing_before_the_new_video_begins(capsys, folder):
    generate(capsys, "-o", "x.mp4")
    whole = (folder / "x.mp4").read_bytes()
    generate(capsys, "-o", "x.mp4", "--overwrite", "--overlap", "20", code=2)
    assert (folder / "x.run/video.mp4").read_bytes() == whole == (folder / "x.mp4").read_bytes()
    assert run(["extend", "x.run", "a", *CLOCK, "-o", "x.mp4", "--overwrite"]) == 2
    assert "holds an input" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["x.mp4", "x.run"]


def test_a_folder_of_other_files_gets_counted_names(capsys, folder):
    (folder / "films").mkdir()
    (folder / "films/diary.txt").write_text("mine")
    generate(capsys, "-o", "films")
    assert (folder / "films/a-clock-001/video.mp4").is_file()


def test_names_count_up_and_come_from_the_prompt(capsys, folder):
    generate(capsys)
    assert "the same as out/a-clock-001" in generate(capsys)
    generate(capsys, "--seed", "random")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a-clock-001", "a-clock-002", "a-clock-003"]


def test_a_drawn_seed_is_printed_and_recorded(capsys, folder):
    for seed in ("random", "-1"):
        said = generate(capsys, "--seed", seed, "-o", "x.mp4")
    seeds = [manifest_of(folder / name).seed for name in ("x.run", "x-2.run")]
    assert seeds[0] != seeds[1] and f"seed {seeds[1]}" in said


def test_variations_share_a_model_and_a_sheet(capsys, folder, monkeypatch):
    import longtake.cli.generation.generate_videos as make

    loaded, load = [], make.load
    monkeypatch.setattr(make, "load", lambda *words, **options: loaded.append(words) or load(*words, **options))
    said = generate(capsys, "--count", "3", "--seed", "7", "-o", "x.mp4")
    assert [manifest_of(folder / f"x-00{n}.run").seed for n in (1, 2, 3)] == [7, 8, 9] and len(loaded) == 1
    assert "seeds 7 to 9" in said and (folder / "x-001-to-003.png").is_file()
    assert all((folder / f"x-00{n}.mp4").is_file() for n in (1, 2, 3))


def test_variations_that_are_stopped_go_on_with_the_same_command(capsys, folder, stop_after):
    for words in (["-o", "x.mp4"], [], ["--seed", "random"]):
        generate(capsys, "--count", "1", *words)
        stop_after(5)  # in the second video
        said = generate(capsys, "--seconds", "3", "--count", "3", *words, code=130)
        assert "1 of 3 videos is done; the same command goes on" in said
        stop_after(None)
        before = sorted(path.name for path in folder.rglob("video.mp4"))
        said = generate(capsys, "--seconds", "3", "--count", "3", *words)
        assert "1 video of the same command is there already" in said and "goes on" in said
        assert len(list(folder.rglob("video.mp4"))) == len(before) + 2


def test_a_codec_and_a_sound_are_those_of_the_finished_file(capsys, folder, sound):
    said = generate(capsys, "-o", "x.mp4", "--codec", "hevc", "--audio", str(sound))
    assert "the sound has 3 s, the video 1 s" in said and "encoded once more, as HEVC" in said
    assert tracks(folder / "x.mp4") == ["hevc", "aac"] and tracks(folder / "x.run/video.mp4") == ["h264"]
    assert "the end of the video is silent" in generate(capsys, "--seconds", "5", "-o", "y", "--audio", str(sound))
    assert tracks(folder / "y.mp4") == ["h264", "aac"]
    generate(capsys, "-o", "z.webm", "--audio", str(sound))
    assert tracks(folder / "z.webm") == ["libdav1d", "opus"]


def test_a_quality_is_that_of_the_segments_of_h264(capsys, folder):
    generate(capsys, "-o", "x.mp4", "--crf", "40")
    assert manifest_of(folder / "x.run").encoding.crf == 40
    assert run(["verify", "x.mp4"]) == 0


def test_only_the_finished_file_is_kept(capsys, folder, stop_after):
    generate(capsys, "-o", "x.mp4", "--no-keep")
    assert [path.name for path in folder.iterdir()] == ["cache", "x.mp4"] or not (folder / "x.run").exists()
    assert not list((folder / "cache").rglob("video.mp4"))
    assert "generated before" in generate(capsys, "-o", "x.mp4", "--no-keep")
    assert run(["resume", "x.mp4"]) == 2 and "--no-keep removed it" in capsys.readouterr().err
    stop_after(2)
    said = generate(capsys, "--seconds", "5", "-o", "y.mp4", "--no-keep", code=130)
    stop_after(None)
    command = next(line for line in said.splitlines() if "longtake resume" in line).split(": ")[1]
    assert run(shlex.split(command)[1:]) == 0 and tracks(folder / "y.mp4") == ["h264"]
    assert not list((folder / "cache").rglob("video.mp4"))


@pytest.mark.parametrize("words, sentence", [
    (["-o", "x.avi"], ".avi files cannot be written, but .mp4"),
    (["-o", "x.gif", "--audio", "none.wav"], "has no sound"),
    (["-o", "x.webm", "--codec", "hevc"], "no HEVC"),
    (["-o", "x.mp4", "--audio", "none.wav"], "there is no sound file at none.wav"),
    (["-o", "x.mp4", "--crf", "70"], "--crf must be from 0 to 51"),
    (["-o", "."], "has no name"),
    (["--count", "0"], "--count must be a number from 1"),
    (["--seed", "-2"], "--seed must be 0 or more, or random"),
])  # fmt: skip
def test_what_cannot_be_written_is_answered_with_what_can(capsys, folder, words, sentence):
    assert sentence in generate(capsys, *words, code=2)
    assert sorted(folder.iterdir()) == []


def test_the_first_lines_say_what_is_made_and_where_before_torch_is_imported(folder):
    words = ["generate", "a [red] ball", "--seconds", "1", "-o", "x.mp4"]
    code = f"import sys; from longtake.cli.generation import announcement as a, new_videos as n; show = n.announce\n" \
           "def stop(*all): show(*all); sys.exit('torch' in sys.modules)\n" \
           f"n.announce = stop; from longtake.cli import run; run({words!r})"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['1 s of "a [red] ball" with pocket, seed 0', "  into x.mp4"]


def test_a_wrong_model_is_answered_before_torch_is_imported(folder):
    code = "import sys; from longtake.cli import run; print(run(sys.argv[1:]), 'torch' in sys.modules)"
    words = ["generate", "a", "--model", "pokcet"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "False"] and "did you mean 'pocket'" in done.stderr


def test_the_plan_is_drawn_only_where_it_is_asked_for(capsys, folder):
    assert "noise to video" not in generate(capsys)
    for flag in ("--verbose", "--dry-run"):
        assert "noise to video" in generate(capsys, flag)


def test_the_last_lines_are_commands_that_work(capsys, folder, monkeypatch):
    said = generate(capsys, "-o", "a film.mp4")
    commands = {line[:15].strip(): shlex.split(line[15:]) for line in said.splitlines() if " longtake " in line[:30]}
    assert set(commands) == {"extend", "another one"}
    for words in commands.values():
        assert run(words[1:]) == 0, words
    assert manifest_of(folder / "out/a-clock-001").frames == 6 * 24
    seed = manifest_of(folder / "out/a-clock-002").seed
    assert seed != 0


def test_the_player_of_the_machine_is_named(capsys, folder, monkeypatch):
    (folder / "bin").mkdir()
    (folder / "bin/xdg-open").write_text('#!/bin/sh\ntest -f "$1" && touch opened\n')
    (folder / "bin/xdg-open").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "platform", "linux")
    line = next(line for line in generate(capsys, "-o", "a film.mp4").splitlines() if "watch" in line)
    subprocess.run(line.split(None, 1)[1], shell=True, check=True)
    assert (folder / "opened").exists()


def test_programs_get_the_file_as_an_event(capsys, folder):
    lines = generate(capsys, "-o", "x.mp4", "--format", "json").splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [event["event"] for event in events][-2:] == ["file_written", "published"]
    assert events[-2]["path"] == "x.mp4" and events[-2]["sha256"] == events[-1]["sha256"]
