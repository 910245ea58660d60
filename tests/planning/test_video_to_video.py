"""Video to video as windows: the first steps are left out, and new frames start from an input video."""

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.core.sigmas import SigmaSchedule, quadratic
from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import make_plan
from longtake.planning.video_to_video import VideoToVideoPlan, usual_skip
from longtake.planning.window import LatentSource, check

EIGHT = "1,0.9937,0.9875,0.9812,0.975,0.9094,0.725,0.4219"
LIMITS = Limits(25)


def test_the_first_steps_are_left_out_and_context_stays():
    plan = make_plan("relay", steps=8, sigma_spacing="quadratic", shift=1.0, window=41, overlap=9)
    plain = list(plan.windows(100, 8, LIMITS, given_latents=1))
    windows = list(VideoToVideoPlan(plan, 3).windows(100, 8, LIMITS, given_latents=1))
    assert len(windows) == len(plain) == 3
    for window, whole in zip(windows, plain):
        check(window, LIMITS)
        assert torch.equal(window.sigmas, whole.sigmas[3:]) and window.role == whole.role and window.cut == whole.cut
        new = [f for f, role in zip(window.frames, window.role) if role == "generate"]
        assert window.sources == {f: LatentSource("video", f) for f in new} and len(new) == len(window.frames) - (
            2 if window.cut else 1
        )


def test_a_staircase_starts_lower_too():
    plan = make_plan("async", steps=6, sigma_spacing="quadratic", shift=1.0, ar_step=2, window=41, handoff="pixels")
    (window,) = VideoToVideoPlan(plan, 2).windows(41, 8, LIMITS)
    check(window, LIMITS)
    assert float(window.sigmas.max()) == float(quadratic(6)[2]) and not window.sigmas[-1].any()
    steps = (window.sigmas[1:] != window.sigmas[:-1]).sum(0)
    assert steps.tolist() == [4] * len(window.frames)


def test_every_window_begins_a_clip():
    plan = VideoToVideoPlan(make_plan("sliding", steps=4, window=41, overlap=9), 1)
    assert len(list(plan.windows(41, 8, LIMITS))) == 1
    with pytest.raises(PlanError, match="clip by clip: use --strategy relay"):
        list(plan.windows(100, 8, LIMITS))


@pytest.mark.parametrize("skip", [-1, 0, 4, 9])
def test_some_steps_are_left_out_and_some_remain(skip):
    with pytest.raises(PlanError, match="between 1 and 3 of 4 steps"):
        list(VideoToVideoPlan(make_plan("clip", steps=4), skip).windows(41, 8, LIMITS))


def test_by_default_the_steps_that_keep_hardly_anything_are_left_out():
    assert usual_skip(SigmaSchedule(sigmas=EIGHT)) == 5
    assert usual_skip(SigmaSchedule(sigmas="0.9,0.5")) == 1 and usual_skip(SigmaSchedule(sigmas="1,0.99")) == 1
    sigmas = quadratic(40)
    skip = usual_skip(SigmaSchedule(steps=40, sigma_spacing="quadratic", shift=1.0))
    assert sigmas[skip] <= 0.95 < sigmas[skip - 1]
