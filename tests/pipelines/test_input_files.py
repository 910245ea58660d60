"""Input images and videos of the command line: shown once, kept in the run directory, the same bytes after a kill."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

import longtake
from longtake.cli import run
from longtake.core.errors import PlanError
from longtake.media import video_io as media
from longtake.media.images import fit_image, frames_to_video, resample_frames
from longtake.media.video_reader import timed_frames
from longtake.models import load
from longtake.models.toy.clock import draw_numbers, read_numbers
from longtake.pipelines.settings.request import Inputs
from longtake.planning.limits import Limits
from tests import released
from tests.checkpoints import random_wan
from tests.runs.toy_runs import content, counted, forked, kill, waited


def clock_video(path, numbers, rate=24, name=None):
    """A video file of a clock that shows these numbers."""
    frames = ((draw_numbers(torch.tensor([list(numbers)], dtype=torch.float32))[0] + 1) * 127.5).round().to(torch.uint8)
    made = media.encode(frames.permute(1, 2, 3, 0), 0, Fraction(rate))
    path.write_bytes(made.init + made.media)
    return path


def said(capsys, *arguments):
    code = run([str(a) for a in arguments])
    return code, capsys.readouterr().err.strip()


def picture(path, number=50):
    pixels = (frames_to_video(torch.zeros(1, 1, 1, 3)), draw_numbers(torch.tensor([[float(number)]])))[1][0, :, 0]
    Image.fromarray(((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    """A diffusion-forcing model of 24 x 16 pixels."""
    return random_wan(tmp_path_factory.mktemp("wan") / "m")


# ---------------------------------------------------------------- on the command line
def test_an_extension_shows_every_frame_once(tmp_path, capsys):
    source, out = clock_video(tmp_path / "a.mp4", range(40, 81)), tmp_path / "out"
    assert (
        run(["extend", str(source), "a clock", "--model", "clock", "--seconds", "3", "--threads", "1", "-o", str(out)])
        == 0
    )
    assert "the video to continue" in capsys.readouterr().out
    assert counted(out / "video.mp4") == list(range(40, 40 + 41 + 72))
    assert run(["verify", str(out)]) == 0
    assert "the input video.mp4 has its SHA-256" in capsys.readouterr().out


def test_an_image_is_the_first_frame(tmp_path):
    out = tmp_path / "out"
    image = picture(tmp_path / "fifty.png")
    assert (
        run(
            [
                "generate",
                "a",
                "--image",
                str(image),
                "--model",
                "clock",
                "--seconds",
                "4",
                "--threads",
                "1",
                "-o",
                str(out),
            ]
        )
        == 0
    )
    assert counted(out / "video.mp4") == list(range(50, 50 + 96))
    assert json.loads((out / "run.json").read_text())["settings"]["inputs"]["image"] == {
        "name": "image.png",
        "file": "fifty.png",
        "sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
    }


def asked(world, folder, tmp_path, wan):
    """The command line of each world, once with every kind of input file."""
    image = picture(tmp_path / "i.png")
    long = ["--threads", "1", "--steps", "2", "--seconds", "3", "-o", str(folder)]
    if world == "image to video":
        model = str(tmp_path / "i2v" / "m")
        return ["generate", "a red ball", "--image", str(image), "--model", model, *long, "--window", "13"]
    small = ["--model", str(wan), "--window", "17", "--overlap", "5", *long]
    if world == "first and last":
        return ["generate", "a red ball", "--image", str(image), "--last-image", str(image), *small]
    return ["extend", str(clock_video(tmp_path / "v.mp4", range(33))), "a red ball", *small]


@pytest.mark.long
@pytest.mark.parametrize("world", ["first and last", "extension", "image to video"])
def test_killed_and_resumed_from_the_copies_it_becomes_the_same_bytes(tmp_path, wan, world, capsys):
    if world == "image to video":
        made = released.diffusers(tmp_path / "i2v" / "m", released.parts("i2v"))
        about = dict(
            name="i2v",
            family="wan",
            fps=24,
            size=[32, 32],
            kind="i2v",
            strategy="clip-conditioned",
            max_latent_frames=4,
        )
        about |= dict(strategy_options=dict(overlap=1, handoff="pixels"), guidance_scale=2.0)
        (made / "longtake.json").write_text(json.dumps(about))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(asked(world, whole, tmp_path, wan)) == 0

    def dies():
        import longtake.cli.progress as progress

        show = progress.LineOutput.show

        def show_two(self, event):
            show(self, event)
            if self.progress.segments > 1:
                os._exit(9)

        progress.LineOutput.show = show_two
        run(asked(world, cut, tmp_path, wan))

    assert waited(forked(dies)) == 9
    for source in tmp_path.glob("[iv].*"):
        source.unlink()  # only the copies are left
    assert run(["resume", str(cut)]) == 0
    assert content(cut) == content(whole)
    assert run(["verify", str(cut)]) == 0
    capsys.readouterr()
    copy = next((cut / "inputs").iterdir())
    copy.write_bytes(copy.read_bytes() + b"x")
    code, error = said(capsys, "resume", cut)
    assert code == 2 and f"{copy.name}, the input {copy.stem} of this run, was altered" in error
    assert run(["verify", str(cut)]) == 1
    copy.unlink()
    code, error = said(capsys, "resume", cut)
    assert code == 2 and "is missing: put back the file with SHA-256" in error


@pytest.mark.long
def test_a_kill_at_any_moment_of_an_extension(tmp_path):
    """Also while the frames of the earlier video pass through."""
    source = clock_video(tmp_path / "a.mp4", range(300))
    arguments = ["extend", str(source), "a", "--model", "clock", "--seconds", "6", "--threads", "1"]
    assert run([*arguments, "-o", str(tmp_path / "whole")]) == 0
    import time

    for number, wait in enumerate((0.05, 0.3, 0.6)):
        out = tmp_path / str(number)
        pid = forked(lambda out=out: run([*arguments, "-o", str(out)]))
        while not (out / "journal.jsonl").exists():
            time.sleep(0.01)
        time.sleep(wait)
        kill(pid)
        assert run(["resume", str(out)]) == 0
        assert content(out) == content(tmp_path / "whole")


def test_a_portrait_video_turns_the_model(tmp_path, capsys):
    wan = random_wan(tmp_path / "m")
    about = json.loads((wan / "longtake.json").read_text())
    (wan / "longtake.json").write_text(json.dumps(about | dict(size=[16, 32])))
    frames = torch.randint(0, 256, (30, 40, 20, 3), dtype=torch.uint8)
    made = media.encode(frames, 0, Fraction(24))
    (tmp_path / "p.mp4").write_bytes(made.init + made.media)
    out, options = tmp_path / "out", ["--model", str(wan), "--steps", "1", "--seconds", "1", "--threads", "1"]
    assert run(["extend", str(tmp_path / "p.mp4"), "a red ball", *options, "-o", str(out)]) == 0
    shown = [picture for _, picture in timed_frames(out / "video.mp4")]
    assert len(shown) == 30 + 24 and shown[0].shape == (32, 16, 3)
    sampling = json.loads((out / "run.json").read_text())["settings"]["sampling"]
    assert (sampling["height"], sampling["width"]) == (32, 16)
    assert run(["resume", str(out)]) == 0
    asked = [*options, "--size", "24x24", "-o", str(tmp_path / "square")]
    assert run(["extend", str(tmp_path / "p.mp4"), "a red ball", *asked]) == 0
    assert next(timed_frames(tmp_path / "square" / "video.mp4"))[1].shape == (24, 24, 3)


BAD = {
    "no such image": (["generate", "a", "--image", "no.png"], "no.png cannot be read: there is no such file"),
    "a text as an image": (["generate", "a", "--image", "TEXT"], "cannot be read as an image"),
    "half an image": (["generate", "a", "--image", "HALF"], "cannot be read as an image"),
    "no such end": (["generate", "a", "--last-image", "no.png"], "no.png cannot be read: there is no such file"),
    "no such video": (["extend", "no.mp4", "a"], "no.mp4 cannot be read: there is no such file"),
    "a text as a video": (["extend", "TEXT", "a"], "cannot be read as a video"),
    "extend without prompt": (["extend", "VIDEO"], "give either a prompt"),
    "endless with an end": (
        ["generate", "a", "--endless", "--last-image", "IMAGE"],
        "an endless video has no last frame",
    ),
    "a stream with an end": (
        ["generate", "a", "--last-image", "IMAGE", "--strategy", "continuous"],
        "use --strategy sliding",
    ),
    "a size in words": (["generate", "a", "--size", "large"], "--size is WIDTHxHEIGHT"),
    "a size that is not whole": (["generate", "a", "--size", "17x32"], "use --size 16x32"),
    "a size of nothing": (["generate", "a", "--size", "0x0"], "--size is WIDTHxHEIGHT"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_inputs_are_refused_and_leave_nothing(tmp_path, capsys, wan, name):
    (tmp_path / "TEXT").write_text("no picture")
    whole = picture(tmp_path / "IMAGE.png").read_bytes()
    (tmp_path / "HALF").write_bytes(whole[: len(whole) // 2])
    names = dict(TEXT=tmp_path / "TEXT", HALF=tmp_path / "HALF", IMAGE=tmp_path / "IMAGE.png")
    names["VIDEO"] = clock_video(tmp_path / "v.mp4", range(9))
    arguments, message = BAD[name]
    model = ["--model", str(wan), "--steps", "1", "--threads", "1"]
    code, error = said(capsys, *(names.get(a, a) for a in arguments), *model, "-o", tmp_path / "out")
    assert (code, message in error) == (2, True), error
    assert not (tmp_path / "out").exists()


def test_a_model_without_image_conditioning_names_those_that_have_it():
    clock, image = load("clock"), torch.zeros(16, 16, 3, dtype=torch.uint8)
    for limits, given, message in (
        (
            Limits(max_latent_frames=9, conditioning="none"),
            Inputs(image),
            "skyreels-v2-df-1.3b-540p, or an image-to-video checkpoint such as",
        ),
        (
            Limits(max_latent_frames=9, conditioning="concat"),
            Inputs(last_image=image),
            "For a last image use a diffusion-forcing checkpoint",
        ),
        (Limits(max_latent_frames=9, causal=True), Inputs(last_image=image), "no frame attends to later ones"),
    ):
        clock = replace(clock, limits=limits)
        with pytest.raises(PlanError) as error:
            list(longtake.generate("a", clock, image=given.image, last_image=given.last_image))
        assert message in str(error.value)


# ---------------------------------------------------------------- in Python
def test_the_same_in_python(tmp_path):
    source = clock_video(tmp_path / "a.mp4", range(40, 81))

    def numbers(**given):
        frames = torch.cat(list(longtake.generate("a", "clock", seconds=2, **given)))
        return read_numbers(frames_to_video(frames))[0].int().tolist()

    assert numbers(video=source) == list(range(40, 81 + 48))
    assert numbers(video=str(source)) == list(range(40, 81 + 48))
    frames = torch.stack([picture for _, picture in timed_frames(source)])
    assert numbers(video=frames) == list(range(40, 81 + 48))
    assert numbers(image=frames[3]) == list(range(43, 43 + 48))
    assert numbers(image=frames[3].numpy()) == list(range(43, 43 + 48))
    with pytest.raises(ValueError, match="not both"):
        next(longtake.generate("a", "clock", image=frames[0], video=frames))


def test_the_looping_strategy_uses_its_default_overlap(tmp_path):
    frames = torch.stack([picture for _, picture in timed_frames(clock_video(tmp_path / "a.mp4", range(40, 81)))])

    def numbers(**given):
        made = torch.cat(list(longtake.generate("a", "clock", seconds=2, strategy="looping", **given)))
        return read_numbers(frames_to_video(made))[0].int().tolist()

    assert numbers(video=frames) == list(range(40, 81 + 48))
    assert numbers(image=frames[3], last_image=frames[-1]) == list(range(43, 43 + 48))


# ---------------------------------------------------------------- sizes and rates
@pytest.mark.parametrize(("before", "after"), [(24, 24), (30, 24), (12, 24), (Fraction(24000, 1001), 24), (60, 16)])
def test_frames_are_those_nearest_in_time(before, after):
    count = 50
    exact = [(Fraction(n) / before, torch.tensor(n)) for n in range(count)]
    rough = [(Fraction(round(1000 * n / before), 1000) + 7, torch.tensor(n)) for n in range(count)]  # as in .webm
    made = [int(n) for n in resample_frames(exact, Fraction(after))]
    assert [int(n) for n in resample_frames(rough, Fraction(after))] == made or before in (12, 30, 60)
    assert abs(len(made) / after - count / before) <= 0.5 / after
    for number, shown in enumerate(made[:-2]):
        assert abs(Fraction(shown) / before - Fraction(number, after)) <= Fraction(1, 2) / Fraction(before)
    if before == after or before == Fraction(24000, 1001):
        assert made == list(range(count))


def test_an_image_covers_the_size_and_is_cropped_to_its_centre():
    pixels = np.zeros((40, 120, 3), dtype=np.uint8)
    pixels[:, 40:80] = 255
    assert fit_image(pixels, (20, 20)).float().mean() > 250
    assert fit_image(pixels, (20, 60)).shape == (20, 60, 3)
    one = torch.randint(0, 256, (16, 24, 3), dtype=torch.uint8)
    assert torch.equal(fit_image(one, (16, 24)), one), "its own size is left alone"


def test_a_turned_video_is_read_upright(tmp_path):
    """The rotation matrix in the header of the track is that of a phone held upright."""
    frames = torch.zeros(4, 32, 48, 3, dtype=torch.uint8)
    frames[:, :16, :, 0] = 255  # red above
    made = media.encode(frames, 0, Fraction(24))
    data = bytearray(made.init + made.media)
    at = data.index(b"tkhd") + 4 + 4 + 36
    matrix = [0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(n.to_bytes(4, "big") for n in matrix)
    (tmp_path / "turned.mp4").write_bytes(data)
    _, shown = next(timed_frames(tmp_path / "turned.mp4"))
    assert shown.shape == (48, 32, 3)
    assert shown[:, 16:, 0].float().mean() > 200 > 50 > shown[:, :16, 0].float().mean(), "red is to the right"
