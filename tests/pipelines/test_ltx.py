"""The LTX-Video pipeline: exact lengths, keyframes that count, and errors that name the fix."""

from dataclasses import replace

import pytest
import torch

from longtake.core.errors import PlanError, SettingsError
from longtake.core.guidance_settings import STG_MODES, Guidance
from longtake.core.options import SamplingOptions
from longtake.media.conditioning_frames import blurred_and_compressed
from longtake.media.images import images_to_video
from longtake.models.ltx.checkpoint import open_folder
from longtake.pipelines import ltx as pipeline_ltx
from longtake.pipelines.ltx import Condition, LTXVideoPipeline
from longtake.pipelines.settings import run_settings
from longtake.pipelines.settings.request import Inputs, Length, Request
from longtake.pipelines.settings.run_settings import RunSettings
from tests.checkpoints import random_ltx


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return LTXVideoPipeline(open_folder(random_ltx(tmp_path_factory.mktemp("ltx") / "m")))


def video(frames: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (frames, 16, 16, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


FEW = dict(steps=2, guidance=1.0)


@pytest.mark.parametrize(
    "options",
    [
        dict(num_frames=30),
        dict(num_frames=100),
        dict(num_frames=30, image=video(1)[0], last_image=video(1, 2)[0]),
        dict(
            num_frames=41,
            conditions=[Condition(video(1)[0], frame=13, strength=0.5), Condition(video=video(17), frame=16)],
        ),
        dict(num_frames=100, conditions=[Condition(video(1)[0], frame=77)]),
        dict(num_frames=24, video=video(40), context_frames=9),
        dict(num_frames=90, video=video(40), context_frames=9),
        dict(num_frames=24, video=video(40), context_frames=17, extend="backward"),
        dict(num_frames=90, strategy="looping", image=video(1)[0], tile=40, overlap=16, reference=0.9, adain=0.2),
        dict(num_frames=30, solver="stochastic", image_cond_noise_scale=0.15, image=video(1)[0]),
    ],
)
def test_exactly_as_many_frames_as_asked_for(pipe, options):
    made = pipe(scenes=["a red ball", "a blue ball"], **FEW, **options).frames[0].uint8()
    assert made.shape == (options["num_frames"], 16, 16, 3) and made.dtype == torch.uint8


def test_every_input_changes_the_video_and_the_seed_decides_the_rest(pipe):
    def made(**options):
        return pipe("a red ball", num_frames=33, **FEW, **options).frames[0].uint8()

    plain = made()
    assert torch.equal(plain, made()) and not torch.equal(plain, made(seed=1))
    for options in (
        dict(image=video(1)[0]),
        dict(last_image=video(1)[0]),
        dict(conditions=[Condition(video(1)[0], frame=16)]),
        dict(conditions=[Condition(video(1)[0], frame=16, strength=0.5)]),
        dict(video=video(24)),
        dict(solver="stochastic"),
    ):
        assert not torch.equal(plain, made(**options)), options


@pytest.mark.parametrize(
    ("options", "blur", "crf"),
    [
        ({}, 1.0, 29),
        (dict(image_cond_crf=0), 1.0, 0),
        (dict(image_cond_blur=0), 0.0, 29),
        (dict(image_cond_blur=0.5, image_cond_crf=40), 0.5, 40),
        (dict(image_cond_blur=0.0, image_cond_crf=0), 0.0, 0),
    ],
)
def test_everything_that_is_encoded_is_blurred_and_compressed_as_published(pipe, monkeypatch, options, blur, crf):
    defaults = replace(pipe.model.defaults, image_cond_blur=1.0, image_cond_crf=29)
    model, seen = replace(pipe.model, defaults=defaults), []
    monkeypatch.setattr(pipeline_ltx, "new_rollout", lambda model, script, plan, sampling, inputs: seen.append(inputs))
    given = dict(conditions=[Condition(video(1)[0], frame=16), Condition(video=video(9), frame=24)], video=video(40, 2))
    LTXVideoPipeline(model).stream("a", num_frames=60, context_frames=9, **given, **options)
    monkeypatch.setattr(run_settings, "new_rollout", lambda *given: seen.append(given[4]))
    more = Inputs(image=video(1)[0], last_image=video(1, 3)[0])
    settings = RunSettings.resolve(model, Request("a", Length(seconds=2.0), more, SamplingOptions(**options)))
    settings.new_rollout(model, more)
    ours, run = seen
    got = [ours.start, *(one.frames for one in ours.keyframes), run.start, run.end]
    frames = [video(40, 2)[-9:], video(1), video(9), video(1), video(1, 3)]
    for one, raw in zip(got, frames, strict=True):
        assert torch.equal(one, blurred_and_compressed(images_to_video(list(raw), (16, 16)), blur, crf))
    assert (settings.sampling.image_cond_blur or 0, settings.sampling.image_cond_crf or 0) == (blur, crf)
    assert RunSettings.from_facts(settings.facts()) == settings
    other = RunSettings.resolve(model, Request("a", Length(seconds=2.0), more, SamplingOptions(image_cond_crf=17)))
    assert other.inputs["pixels"] != settings.inputs["pixels"]


def test_a_blur_or_crf_that_cannot_be_is_refused(pipe):
    for options, words in ((dict(image_cond_crf=52), "between 0 and 51"), (dict(image_cond_blur=-1.0), "positive")):
        with pytest.raises(SettingsError, match=words):
            pipe("a", num_frames=9, **options)


def test_modes_of_stg_are_options(pipe):
    guidance = Guidance(scale=(2.0,), stg_scale=(1.0,), blocks=((1,),))
    made = lambda **options: pipe("a red ball", num_frames=9, steps=2, guidance=guidance, **options).frames[0].uint8()
    modes = {mode: made(stg_mode=mode) for mode in STG_MODES}
    assert torch.equal(made(), modes["attention_values"])
    assert len({frames.numpy().tobytes() for frames in modes.values()}) == len(STG_MODES)
    assert torch.equal(modes["attention_skip"], pipe(
        "a red ball", num_frames=9, steps=2, guidance=replace(guidance, stg_mode="attention_skip")
    ).frames[0].uint8())  # fmt: skip
    for options, words in (
        (dict(stg_mode="stg"), "one of attention_values"),
        (dict(guidance=1.0), "no perturbed branch"),
    ):
        with pytest.raises(SettingsError, match=words):
            pipe("a", num_frames=9, **{"steps": 2, "guidance": guidance, "stg_mode": "residual", **options})


@pytest.mark.parametrize("frames", [30, 300])
def test_the_plan_is_that_of_the_command_line(pipe, frames):
    options = dict(image_cond_noise_scale=0.15, window=65, overlap=1)
    defaults = replace(pipe.model.defaults, strategy="relay", strategy_options=options)
    model = replace(pipe.model, defaults=defaults)
    made = LTXVideoPipeline(model).start("a", num_frames=frames).settings
    settings = RunSettings.of(model, "a", seconds=frames / 24)
    assert made.make_plan() == settings.make_plan() and made.make_plan().image_cond_noise_scale == 0.15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(height=20), "use size 16x16|use size 16x24"),
        (dict(conditions=[Condition(video(1)[0], frame=33)]), "lies behind the end of a video of 33 frames"),
        (dict(conditions=[Condition(video=video(9), frame=12)]), "a multiple of 8 frames, not at 12: use"),
        (dict(conditions=[Condition(video(1)[0], strength=0.0)]), "strength"),
        (dict(conditions=[Condition(video=video(8), frame=8)]), "8 input frames"),
        (dict(video=video(5)), "the 5 frames of the video"),
    ],
)
def test_unusable_conditions_are_refused(pipe, options, words):
    with pytest.raises(PlanError, match=words):
        list(pipe.stream("a", num_frames=33, **FEW, **options))


def test_a_condition_is_an_image_or_a_video():
    for options in (dict(), dict(image=video(1)[0], video=video(9))):
        with pytest.raises(PlanError, match="one of"):
            Condition(**options)
