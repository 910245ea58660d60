"""Video to video from Python and from the command line: lengths, clips, records, resume."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

import longtake
from longtake.cli import run
from longtake.core.errors import PlanError, SettingsError
from longtake.media import video_io
from longtake.models.ltx.checkpoint import open_folder
from longtake.pipelines.ltx import LTXVideoPipeline
from longtake.pipelines.settings.inputs import source_reader
from longtake.pipelines.settings.request import Request
from longtake.pipelines.settings.run_settings import RunSettings
from tests.checkpoints import random_ltx
from tests.rollouts import recorded, resumed

FEW = dict(steps=4, guidance=1.0)
RELAY = dict(strategy="relay", window=33, overlap=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_ltx(tmp_path_factory.mktemp("v2v") / "m")


@pytest.fixture(scope="module")
def model(folder):
    return open_folder(folder)


def video(frames: int, seed: int = 1) -> torch.Tensor:
    noise = torch.rand((frames, 16, 16, 3), generator=torch.Generator().manual_seed(seed))
    return (noise * 255).to(torch.uint8)


def made(model, source, **options):
    return torch.cat(list(longtake.generate("a red ball", model, input_video=source, **{**FEW, **RELAY, **options})))


def test_the_length_is_that_of_the_input_video(model):
    source = video(70)
    whole = made(model, source)
    assert whole.shape == source.shape and whole.dtype == torch.uint8
    assert torch.equal(whole[:20], made(model, source, num_frames=33)[:20])
    assert not torch.equal(whole, made(model, video(70, 2)))
    assert LTXVideoPipeline(model)("a red ball", input_video=source, **FEW, **RELAY).frames[0].shape == source.shape
    with pytest.raises(PlanError, match="has 70 frames at 24 fps, not 71: ask for num_frames 70"):
        made(model, source, num_frames=71)
    with pytest.raises(PlanError, match="has 70 frames at 24 fps, not 71"):
        LTXVideoPipeline(model)("a", input_video=source, num_frames=71, **FEW)


def test_the_more_steps_are_left_out_the_more_of_the_input_video_stays(model):
    """Through a network that moves nothing comes the input video, with noise of the first sigma that is left."""
    still, source = replace(model, session=NoVelocity), video(33)
    pixels = source.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    want = model.vae.decode(model.vae.encode(pixels))[0].clamp(-1, 1)
    away = []
    for skip in (3, 1):
        options = dict(skip_initial_inference_steps=skip, sigmas="1,0.9,0.5,0.001", steps=None)
        got = made(still, source, **options).permute(3, 0, 1, 2).float() / 127.5 - 1
        away.append(float((got - want).abs().mean()))
    assert away[0] < 0.06 < away[1] / 2, away  # the decoder itself adds a little noise


class NoVelocity:
    """A session that moves nothing."""

    def begin(self, window, context, cond):
        pass

    def __call__(self, x, sigma):
        return torch.zeros_like(x)

    def finish(self, window, x):
        pass

    def state(self):
        return {}

    def load(self, state):
        pass


def test_each_clip_starts_from_its_own_frames(model):
    source, read = video(70), []
    settings = RunSettings.resolve(model, Request.of("a", input_video=source, **FEW, **RELAY))
    inputs = settings.rollout_inputs(model, Request.of("a", input_video=source).inputs)
    assert settings.sampling.skip_initial_inference_steps == 3  # 1, 0.9875, 0.975, 0.73
    reader = source_reader(source, (16, 16), settings.sampling)
    assert torch.equal(inputs.source(40, 9), reader(40, 9))
    assert torch.equal(
        reader(64, 9)[:, :, 6:], reader(69, 1).expand(-1, -1, 3, -1, -1)
    )  # the last frame fills its latent
    from longtake.pipelines.settings import run_settings

    def seen(first, count):
        read.append((first, count))
        return reader(first, count)

    rollout = run_settings.new_rollout(
        model, longtake.Script.from_facts(settings.script), settings.make_plan(), settings.sampling,
        replace(inputs, source=seen),
    )  # fmt: skip
    for _ in rollout.run():
        pass
    assert read == [(0, 33), (32, 33), (64, 9)]


def test_a_resume_continues_to_the_same_frames(model):
    source = video(70)
    request = Request.of("a", input_video=source, **FEW, **RELAY)
    settings = RunSettings.resolve(model, request)
    whole, snapshots = recorded(settings.new_rollout(model, request.inputs))
    again = settings.new_rollout(model, Request.of("a", input_video=source).inputs)
    assert torch.equal(resumed(again, snapshots[0]), whole[:, :, snapshots[0].frames :])


def test_from_the_command_line(folder, tmp_path, capsys):
    file, out = tmp_path / "in.mp4", tmp_path / "out"
    encoded = video_io.encode(video(40), 0, Fraction(24))
    file.write_bytes(encoded.init + encoded.media)
    command = ["generate", "a red ball", "--model", str(folder), "--threads", "1", "--steps", "4", "--guidance", "1"]
    asked = [*command, "--input-video", str(file), "--strategy", "relay", "--window", "33", "--overlap", "1"]
    assert run([*asked, "--skip-initial-inference-steps", "2", "-o", str(out)]) == 0
    facts = json.loads((out / "run.json").read_text())["settings"]
    assert (
        facts["inputs"]["input_video"]["frames"] == 40 and facts["inputs"]["input_video"]["name"] == "input_video.mp4"
    )
    assert facts["sampling"]["skip_initial_inference_steps"] == 2
    assert run(["verify", str(out), "--segment", "0"]) == 0
    capsys.readouterr()
    for words, message in (
        (["--skip-initial-inference-steps", "2"], "give --input-video too"),
        (["--input-video", str(file), "--endless"], "not a video without end"),
        (["--input-video", str(tmp_path / "none.mp4")], "none.mp4 cannot be read: there is no such file"),
    ):
        assert run([*command, *words, "-o", str(tmp_path / "other")]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_one_video_at_a_time(model):
    with pytest.raises(PlanError, match="continues another one or is made from it"):
        made(model, video(33), video=video(33))
    with pytest.raises(SettingsError, match="give input_video too"):
        list(longtake.generate("a", model, num_frames=33, skip_initial_inference_steps=2, **FEW))
