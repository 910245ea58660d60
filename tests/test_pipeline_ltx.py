"""LTX-Video by its conditions: exact lengths, what is given is seen, and what cannot be is said."""

from dataclasses import replace

import pytest
import torch

from longtake import pipeline_ltx
from longtake.models.ltx_checkpoint import open_folder
from longtake.pipeline_ltx import Condition, LTXVideoPipeline
from longtake.plan import PlanError
from longtake.settings import Settings
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
        dict(num_frames=24, video=video(40), told=9),
        dict(num_frames=90, video=video(40), told=9),
        dict(num_frames=24, video=video(40), told=17, extend="backward"),
        dict(num_frames=90, strategy="looping", image=video(1)[0], tile=40, overlap=16, reference=0.9, adain=0.2),
        dict(num_frames=30, solver="stochastic", cond_noise=0.15, image=video(1)[0]),
    ],
)
def test_exactly_as_many_frames_as_asked_for(pipe, options):
    made = pipe(["a red ball", "a blue ball"], **FEW, **options).frames
    assert made.shape == (options["num_frames"], 16, 16, 3) and made.dtype == torch.uint8


def test_what_is_given_changes_the_video_and_the_seed_decides_the_rest(pipe):
    def made(**options):
        return pipe("a red ball", num_frames=33, **FEW, **options).frames

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


@pytest.mark.parametrize("frames", [30, 300])
def test_the_plan_is_that_of_the_command_line(pipe, monkeypatch, frames):
    made, model = [], replace(pipe.model, plan="relay", options=dict(cond_noise=0.15, window=65, overlap=1))
    monkeypatch.setattr(pipeline_ltx, "Rollout", lambda model, script, plan, **rest: made.append(plan))
    LTXVideoPipeline(model).stream("a", num_frames=frames)
    settings = Settings.resolve(model, "a", seconds=frames / 24)
    assert made == [settings.make_plan()] and made[0].cond_noise == 0.15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(height=20), "use 16 x 16|use 24 x 16"),
        (dict(conditions=[Condition(video(1)[0], frame=33)]), "nothing is made at frame 33"),
        (dict(conditions=[Condition(video=video(9), frame=12)]), "a multiple of 8 frames, not at 12: use"),
        (dict(conditions=[Condition(video(1)[0], strength=0.0)]), "strength"),
        (dict(conditions=[Condition(video=video(8), frame=8)]), "8 given frames"),
        (dict(video=video(5)), "has 5 frames"),
    ],
)
def test_what_cannot_be_is_said(pipe, options, words):
    with pytest.raises(PlanError, match=words):
        list(pipe.stream("a", num_frames=33, **FEW, **options))


def test_a_condition_is_one_thing():
    for options in (dict(), dict(picture=video(1)[0], video=video(9))):
        with pytest.raises(PlanError, match="one of them"):
            Condition(**options)
