"""The finished file that the flags of a command describe: its quality, its sound, and what is said about it."""

from __future__ import annotations

import errno
import shlex
import wave

import pytest

from longtake.cli import run
from longtake.runs.files import durable, output_record
from longtake.runs.files.manifest import manifest_of

CLOCK = ["--model", "clock", "--seconds", "1", "--steps", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def generate(capsys, *words, code=0):
    """Generate a second of a clock; return what was printed."""
    assert run(["generate", "a clock", *CLOCK, *words]) == code
    said = capsys.readouterr()
    return said.out + said.err


def sound(path, seconds):
    with wave.open(str(path), "w") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * int(8000 * seconds)))
    return str(path)


def test_the_quality_of_a_webm_file_is_that_of_its_av1(capsys, folder):
    for crf in ("0", "63"):
        generate(capsys, "-o", f"x{crf}.webm", "--crf", crf)
        assert manifest_of(folder / f"x{crf}.run").encoding.crf == 18
        assert output_record.load(folder / f"x{crf}.run").finished.crf == int(crf)
    assert (folder / "x0.webm").stat().st_size > (folder / "x63.webm").stat().st_size
    assert "--crf must be from 0 to 63 for av1, not 64" in generate(capsys, "-o", "y.webm", "--crf", "64", code=2)


def test_another_file_of_the_same_frames_is_called_so(capsys, folder):
    generate(capsys, "-o", "x.mp4")
    tone = sound(folder / "tone.wav", 3)
    for name in ("x.mp4", "x.mov"):
        said = generate(capsys, "-o", name, "--audio", tone)
        assert "the frames were generated before: only the file is written" in said
        assert "the sound has 3 s, the video 1 s" in said
        assert "generated before by the same command" in generate(capsys, "-o", name, "--audio", tone)


def test_a_sound_file_without_sound_is_answered_at_once(capsys, folder):
    said = generate(capsys, "-o", "x.mp4", "--audio", sound(folder / "empty.wav", 0), code=2)
    assert "empty.wav has no sound: its sound track is empty" in said and not (folder / "x.run").exists()


def test_a_disk_that_is_full_at_the_first_file_leaves_the_name_free(capsys, folder, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", full)
        said = generate(capsys, "-o", "out/x.mp4", code=1)
    assert "the disk of out/x.run is full: free some space, or choose another --output" in said
    assert list(folder.iterdir()) == []
    assert "into out/x.mp4" in generate(capsys, "-o", "out/x.mp4")


def test_several_names_that_are_taken_are_called_so(capsys, folder):
    (folder / "x-001.mp4").write_text("a film")
    assert "because x-001.mp4 is another one, which stays" in generate(capsys, "-o", "x.mp4", "--count", "2")


def test_the_commands_for_a_name_with_a_dash_can_be_pasted(capsys, folder):
    said = generate(capsys, "-o=-x.mp4")
    line = next(line for line in said.splitlines() if line.startswith("  extend"))
    assert "./-x.mp4" in line and run([*shlex.split(line)[2:], "-o", "more.mp4"]) == 0
    assert run(["extend", "./-x.mp4", "a clock", *CLOCK, "-o", "y.mp4"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "another one" in line and "-x.mp4" in line)
    assert "./-x.mp4" in line and run(shlex.split(line)[3:]) == 0


def test_a_finished_run_says_that_no_prompt_can_change(capsys, folder):
    generate(capsys, "-o", "x.mp4")
    assert run(["prompts", "x.mp4"]) == 0
    assert "nothing can change any more" in capsys.readouterr().out


def test_the_places_that_are_searched_for_runs_are_named(capsys, folder):
    generate(capsys)
    assert run(["clean"]) == 0
    assert "runs in out; name another folder to search it" in capsys.readouterr().out
