"""`--preview` shows the steps, changes no frame, and never stops a video."""

from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from longtake.cli import run
from longtake.pipelines.call import preview

GENERATE = ["generate", "a red star bounces in the desert", "--seconds", "2", "--steps", "4", "--threads", "1"]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    """The video without a preview."""
    out = tmp_path_factory.mktemp("plain") / "r"
    assert run([*GENERATE, "-o", str(out)]) == 0
    return (out / "video.mp4").read_bytes()


def test_a_file_is_written_and_the_video_stays_the_same(tmp_path, video):
    file = tmp_path / "made" / "preview.png"
    assert run([*GENERATE, "-o", str(tmp_path / "r"), "--preview", str(file)]) == 0
    with Image.open(file) as image:
        assert image.height == 96 and image.width == 8 * 96
    assert [path.name for path in file.parent.iterdir()] == ["preview.png"]
    assert (tmp_path / "r" / "video.mp4").read_bytes() == video


@pytest.mark.parametrize("kind", ["blocks", "kitty"])
def test_pictures_are_printed_where_they_are_asked_for(tmp_path, video, capsys, kind):
    assert run([*GENERATE, "-o", str(tmp_path / "r"), "--preview", kind]) == 0
    said = capsys.readouterr().out
    assert {"blocks": "▀", "kitty": "\033_G"}[kind] in said and "done" in said
    assert (tmp_path / "r" / "video.mp4").read_bytes() == video


def test_without_a_terminal_there_is_no_picture_of_its_own_accord(tmp_path, capsys):
    assert (
        run(["generate", "a", "--model", "clock", "--seconds", "1", "-o", str(tmp_path / "r"), "--preview", "terminal"])
        == 0
    )
    said = capsys.readouterr()
    assert "\033" not in said.out and said.err.count("standard output is no terminal") == 1


def test_a_preview_that_fails_does_not_stop_the_video(tmp_path, video, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert run([*GENERATE, "-o", str(tmp_path / "r"), "--preview", str(tmp_path / "file" / "p.png")]) == 0
    assert capsys.readouterr().err.count("was given up") == 1
    assert (tmp_path / "r" / "video.mp4").read_bytes() == video


def test_other_files_are_refused_at_once(tmp_path, capsys):
    assert run([*GENERATE, "-o", str(tmp_path / "r"), "--preview", "p.tiff"]) == 2
    assert "--preview is a file that ends with" in capsys.readouterr().err
    assert run(["resume", str(tmp_path), "--preview", "p.tiff"]) == 2
    assert not (tmp_path / "r").exists()


def test_previews_are_rare_and_cost_little(monkeypatch, tmp_path):
    """The clock goes on by 0.1 s with every step, and by 0.02 s with every picture: those may take a hundredth of the time."""
    from longtake.models import load
    from longtake.pipelines.settings.request import Request
    from longtake.pipelines.settings.run_settings import RunSettings

    now, drawn = [0.0], []
    monkeypatch.setattr(preview.time, "monotonic", lambda: now[0])
    model, request = load("pocket"), Request.of("a red star", seconds=0.4, steps=60)
    settings = RunSettings.resolve(model, request)

    def draw(image, step):
        now[0] += 0.02
        drawn.append(now[0])

    strip = preview.PreviewStrip(settings.video_model(model), draw, preview.EVERY)
    for event in settings.new_rollout(model, request.inputs).run():
        now[0] += 0.1 if type(event).__name__ == "StepDone" else 0.0
        strip.see(event)
    strip.finish()
    gaps = [b - a for a, b in pairwise(drawn[:-1])]
    assert len(drawn) >= 2 and all(gap >= 2.0 for gap in gaps)


def test_a_file_is_written_in_one_piece(tmp_path, monkeypatch):
    seen = []

    def move(part, path):
        with Image.open(part) as image:
            seen.append((image.size, path.exists()))

    monkeypatch.setattr(preview, "replace_file", move)
    preview.write_preview(tmp_path / "p.png", Image.new("RGB", (8, 4)))
    assert seen == [((8, 4), False)] and not Path(tmp_path / "p.png").exists()
