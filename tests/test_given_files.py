"""Pictures and videos given on the command line: shown once, kept with the reel, and the same bytes after a kill."""

from __future__ import annotations

import hashlib
import json
import os
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

import longtake
from longtake import media
from longtake.cli import run
from longtake.given import Given
from longtake.models import load
from longtake.models.clock import _draw, _read
from longtake.pictures import fitted, resampled, video_of
from longtake.plan import Limits, PlanError
from tests import released
from tests.checkpoints import random_wan
from tests.reel.reels import content, counted, forked, kill, waited


def clock_video(path, numbers, rate=24, name=None):
    """A video file of a clock that shows these numbers."""
    frames = ((_draw(torch.tensor([list(numbers)], dtype=torch.float32))[0] + 1) * 127.5).round().to(torch.uint8)
    made = media.encode(frames.permute(1, 2, 3, 0), 0, Fraction(rate))
    path.write_bytes(made.init + made.media)
    return path


def said(capsys, *arguments):
    code = run([str(a) for a in arguments])
    return code, capsys.readouterr().err.strip()


def picture(path, number=50):
    pixels = (video_of(torch.zeros(1, 1, 1, 3)), _draw(torch.tensor([[float(number)]])))[1][0, :, 0]
    Image.fromarray(((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    """A diffusion-forcing model of 24 x 16 pixels."""
    return random_wan(tmp_path_factory.mktemp("wan") / "m")


# ---------------------------------------------------------------- on the command line
def test_a_clock_goes_on_from_a_video_with_every_frame_once(tmp_path, capsys):
    source, out = clock_video(tmp_path / "a.mp4", range(40, 81)), tmp_path / "out"
    assert (
        run(["extend", str(source), "a clock", "--model", "clock", "--seconds", "3", "--threads", "1", "-o", str(out)])
        == 0
    )
    assert "goes on from" in capsys.readouterr().out
    assert counted(out / "video.mp4") == list(range(40, 40 + 41 + 72))
    assert run(["verify", str(out)]) == 0
    assert "video.mp4, which the video was given" in capsys.readouterr().out


def test_a_clock_begins_with_an_image(tmp_path):
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
    assert json.loads((out / "run.json").read_text())["settings"]["given"]["image"] == {
        "name": "image.png",
        "sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
    }


def asked(world, folder, tmp_path, wan):
    """The command line of each world, once with every kind of given file."""
    image = picture(tmp_path / "i.png")
    long = ["--threads", "1", "--steps", "2", "--seconds", "3", "-o", str(folder)]
    if world == "image to video":
        model = str(tmp_path / "i2v" / "m")
        return ["generate", "a red ball", "--image", str(image), "--model", model, *long, "--window", "13"]
    small = ["--model", str(wan), "--window", "17", "--overlap", "5", *long]
    if world == "first and last":
        return ["generate", "a red ball", "--image", str(image), "--end-image", str(image), *small]
    return ["extend", str(clock_video(tmp_path / "v.mp4", range(33))), "a red ball", *small]


@pytest.mark.parametrize("world", ["first and last", "extension", "image to video"])
def test_killed_and_resumed_from_the_copies_it_becomes_the_same_bytes(tmp_path, wan, world, capsys):
    if world == "image to video":
        made = released.diffusers(tmp_path / "i2v" / "m", released.parts("i2v"))
        about = dict(name="i2v", family="wan", fps=24, size=[32, 32], kind="i2v", plan="crossclip", view=4)
        about |= dict(options=dict(overlap=1, hand="pixels"), guidance=2.0)
        (made / "longtake.json").write_text(json.dumps(about))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(asked(world, whole, tmp_path, wan)) == 0

    def dies():
        import longtake.cli.progress as progress

        progress.Lines._segment = lambda self: self.tally.segments > 1 and os._exit(9)
        run(asked(world, cut, tmp_path, wan))

    assert waited(forked(dies)) == 9
    for source in tmp_path.glob("[iv].*"):
        source.unlink()  # only the copies are left
    assert run(["resume", str(cut)]) == 0
    assert content(cut) == content(whole)
    assert run(["verify", str(cut)]) == 0
    capsys.readouterr()
    copy = next((cut / "given").iterdir())
    copy.write_bytes(copy.read_bytes() + b"x")
    code, error = said(capsys, "resume", cut)
    assert code == 2 and f"{copy.name}, the {copy.stem} that this video was given, was altered" in error
    assert run(["verify", str(cut)]) == 1
    copy.unlink()
    code, error = said(capsys, "resume", cut)
    assert code == 2 and "is gone: put back the file of SHA-256" in error


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
    shown = [picture for _, picture in media.read(out / "video.mp4")]
    assert len(shown) == 30 + 24 and shown[0].shape == (32, 16, 3)
    assert json.loads((out / "run.json").read_text())["settings"]["size"] == [32, 16]
    assert run(["resume", str(out)]) == 0
    asked = [*options, "--size", "24x24", "-o", str(tmp_path / "square")]
    assert run(["extend", str(tmp_path / "p.mp4"), "a red ball", *asked]) == 0
    assert next(media.read(tmp_path / "square" / "video.mp4"))[1].shape == (24, 24, 3)


BAD = {
    "no such image": (["generate", "a", "--image", "no.png"], "there is no picture no.png"),
    "a text as an image": (["generate", "a", "--image", "TEXT"], "no picture that can be read"),
    "half an image": (["generate", "a", "--image", "HALF"], "no picture that can be read"),
    "no such end": (["generate", "a", "--end-image", "no.png"], "there is no picture no.png"),
    "no such video": (["extend", "no.mp4", "a"], "there is no video no.mp4"),
    "a text as a video": (["extend", "TEXT", "a"], "cannot be read as a video"),
    "extend without prompt": (["extend", "VIDEO"], "give either a prompt"),
    "endless with an end": (
        ["generate", "a", "--endless", "--end-image", "IMAGE"],
        "an endless video has no last frame",
    ),
    "a stream with an end": (["generate", "a", "--end-image", "IMAGE", "--plan", "endless"], "use --plan sliding"),
    "a size in words": (["generate", "a", "--size", "large"], "--size is HEIGHTxWIDTH"),
    "a size that is not whole": (["generate", "a", "--size", "17x32"], "use 16 x 32"),
    "a size of nothing": (["generate", "a", "--size", "0x0"], "use 8 x 8"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_given_is_refused_and_leaves_nothing(tmp_path, capsys, wan, name):
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


def test_a_model_that_knows_of_no_frames_names_those_that_do():
    clock, image = load("clock"), torch.zeros(16, 16, 3, dtype=torch.uint8)
    for limits, given, message in (
        (Limits(view=9, context="none"), Given(image), "skyreels-v2-df-1.3b-540p, take pictures and videos"),
        (Limits(view=9, context="beside"), Given(end=image), "for an end frame use a diffusion-forcing checkpoint"),
        (Limits(view=9, causal=True), Given(end=image), "never sees what comes after"),
    ):
        clock.limits = limits
        with pytest.raises(PlanError) as error:
            list(longtake.generate(clock, "a", image=given.image, end_image=given.end))
        assert message in str(error.value)


# ---------------------------------------------------------------- in Python
def test_the_same_in_python(tmp_path):
    source = clock_video(tmp_path / "a.mp4", range(40, 81))

    def numbers(**given):
        frames = torch.cat(list(longtake.generate("clock", "a", seconds=2, **given)))
        return _read(video_of(frames))[0].int().tolist()

    assert numbers(video=source) == list(range(40, 81 + 48))
    assert numbers(video=str(source)) == list(range(40, 81 + 48))
    frames = torch.stack([picture for _, picture in media.read(source)])
    assert numbers(video=frames) == list(range(40, 81 + 48))
    assert numbers(image=frames[3]) == list(range(43, 43 + 48))
    assert numbers(image=frames[3].numpy()) == list(range(43, 43 + 48))
    with pytest.raises(ValueError, match="not both"):
        next(longtake.generate("clock", "a", image=frames[0], video=frames))


def test_a_loop_takes_them_at_its_usual_overlap(tmp_path):
    frames = torch.stack([picture for _, picture in media.read(clock_video(tmp_path / "a.mp4", range(40, 81)))])

    def numbers(**given):
        made = torch.cat(list(longtake.generate("clock", "a", seconds=2, plan="looping", **given)))
        return _read(video_of(made))[0].int().tolist()

    assert numbers(video=frames) == list(range(40, 81 + 48))
    assert numbers(image=frames[3], end_image=frames[-1]) == list(range(43, 43 + 48))


# ---------------------------------------------------------------- sizes and rates
@pytest.mark.parametrize(("before", "after"), [(24, 24), (30, 24), (12, 24), (Fraction(24000, 1001), 24), (60, 16)])
def test_frames_are_those_nearest_in_time(before, after):
    count = 50
    exact = [(Fraction(n) / before, torch.tensor(n)) for n in range(count)]
    rough = [(Fraction(round(1000 * n / before), 1000) + 7, torch.tensor(n)) for n in range(count)]  # as in .webm
    made = [int(n) for n in resampled(exact, Fraction(after))]
    assert [int(n) for n in resampled(rough, Fraction(after))] == made or before in (12, 30, 60)
    assert abs(len(made) / after - count / before) <= 0.5 / after
    for number, shown in enumerate(made[:-2]):
        assert abs(Fraction(shown) / before - Fraction(number, after)) <= Fraction(1, 2) / Fraction(before)
    if before == after or before == Fraction(24000, 1001):
        assert made == list(range(count))


def test_a_picture_covers_the_size_and_is_cut_to_its_middle():
    pixels = np.zeros((40, 120, 3), dtype=np.uint8)
    pixels[:, 40:80] = 255
    assert fitted(pixels, (20, 20)).float().mean() > 250
    assert fitted(pixels, (20, 60)).shape == (20, 60, 3)
    one = torch.randint(0, 256, (16, 24, 3), dtype=torch.uint8)
    assert torch.equal(fitted(one, (16, 24)), one), "its own size is left alone"


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
    _, shown = next(media.read(tmp_path / "turned.mp4"))
    assert shown.shape == (48, 32, 3)
    assert shown[:, 16:, 0].float().mean() > 200 > 50 > shown[:, :16, 0].float().mean(), "red is to the right"
