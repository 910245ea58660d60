"""Videos with input frames at the start, after another video, or at the end."""

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models.toy.clock import clock, draw_numbers, read_numbers
from longtake.models.toy.gaussian import AMPLITUDE, gauss
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import STRATEGIES, make_plan
from longtake.testing.toys import one_scene, toy_limits
from tests.rollouts import recorded, resumed


def numbers(*values):
    """Clock frames (1 3 T 16 16) that show these numbers."""
    return draw_numbers(torch.tensor([list(values)], dtype=torch.float32))


def shown(rollout):
    return torch.cat([read_numbers(e.video) for e in rollout.run() if isinstance(e, Frames)], 1)[0].int().tolist()


def options(name):
    return dict(overlap=5) if STRATEGIES[name].plan().traits.context_frames else {}


@pytest.mark.parametrize("name", [n for n in STRATEGIES if n != "clip"])
@pytest.mark.parametrize("count", [1, 5, 9])
def test_a_video_starts_with_its_input_frames(name, count):
    model = clock(4, max_latent_frames=9, conditioning=toy_limits(name, 9).conditioning)
    start = numbers(*range(100, 100 + count))
    assert shown(
        build_rollout(
            model, one_scene(90), make_plan(name, steps=4, **options(name)), inputs=RolloutInputs(start=start)
        )
    ) == list(range(100, 190))


@pytest.mark.parametrize("name", [n for n in STRATEGIES if n != "clip"])
@pytest.mark.parametrize("count", [5, 9])
def test_an_extension_repeats_no_frame(name, count):
    model = clock(4, max_latent_frames=9, conditioning=toy_limits(name, 9).conditioning)
    start = numbers(*range(100 - count, 100))
    rollout = build_rollout(
        model, one_scene(90), make_plan(name, steps=4, **options(name)), inputs=RolloutInputs(start=start, extend=True)
    )
    assert shown(rollout) == list(range(100, 190))


def test_a_start_belongs_to_the_first_shot_alone():
    timeline = Script.of([Scene("a", 1.0), Scene("b", 1.0, cut=True)], 24)
    rollout = build_rollout(
        clock(4, max_latent_frames=9),
        timeline,
        make_plan("sliding", steps=4, overlap=5),
        inputs=RolloutInputs(start=numbers(50)),
    )
    assert shown(rollout) == [*range(50, 74), *range(24)]


def test_a_start_survives_a_resume():
    def rollout():
        return build_rollout(
            clock(4, max_latent_frames=9),
            one_scene(90),
            make_plan("relay", steps=4, overlap=5),
            inputs=RolloutInputs(start=numbers(*range(7, 12)), extend=True),
        )

    whole, snapshots = recorded(rollout())
    for snapshot in snapshots[:-1]:
        rest = resumed(rollout(), snapshot)
        assert torch.equal(read_numbers(rest).int(), read_numbers(whole)[:, snapshot.frames :].int())


def frames_made(strategy, model, frames):
    """Frames that a plan generates: a few more than requested where blocks do not end there."""
    return sum(window.role.count("generate") for window in strategy.windows(frames, 1, model.limits))


@pytest.mark.parametrize(
    ("name", "extra"),
    [("sliding", {}), ("async", dict(ar_step=2)), ("relay", {}), ("sliding", dict(causal_block_size=3))],
)
@pytest.mark.parametrize("frames", [30, 61, 90])
def test_a_last_image_is_approached_and_never_shown_twice(name, extra, frames):
    """With the Gaussian model the mean of the last frame is that of a bridge from the context frames to the last image."""
    model, strategy = gauss(max_latent_frames=16, size=24), make_plan(name, steps=20, overlap=5, **extra)
    *_, window = strategy.windows(frames, 1, model.limits, end_latents=1)
    end = torch.full((1, 3, 1, 24, 24), 3.0 * AMPLITUDE)
    rollout = build_rollout(model, one_scene(frames), strategy, inputs=RolloutInputs(end=end), solver="unipc")
    video = torch.cat([e.video for e in rollout.run() if isinstance(e, Frames)], 2) / AMPLITUDE
    assert video.shape[2] == frames
    assert window.role[-1] == "keyframe"
    made = window.role.count("generate")
    late = made - (frames_made(strategy, model, frames) - frames)  # where the last shown frame stands among the new
    expected = 3.0 * 0.9 ** (made + 1 - late) * (1 - 0.81**late) / (1 - 0.81 ** (made + 1))
    assert abs(video[:, :, -1].mean() - expected) < 0.1


def test_unusable_input_frames_are_refused():
    for name, given, message in (
        ("sliding", dict(start=numbers(1, 2, 3)), "give 1 or 5"),
        ("sliding", dict(start=numbers(*range(33))), "all 20 frames are given"),
        ("continuous", dict(end=numbers(1)), "use --strategy sliding"),
        ("continuous", dict(start=numbers(*range(33))), "all 20 frames are given"),
    ):
        with pytest.raises(PlanError) as error:
            list(
                build_rollout(
                    clock(4, max_latent_frames=9),
                    one_scene(20),
                    make_plan(name, steps=4, **options(name)),
                    RolloutInputs(**given),
                ).run()
            )
        assert message in str(error.value)
    with pytest.raises(PlanError, match="endless"):
        list(
            build_rollout(
                clock(4, max_latent_frames=9),
                one_scene(None),
                make_plan("sliding", steps=4, overlap=5),
                inputs=RolloutInputs(end=numbers(1)),
            ).run()
        )
