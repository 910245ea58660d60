"""Videos that begin with given frames, go on from a video, or come to a given end."""

import pytest
import torch

from longtake.engine import Rollout
from longtake.events import Ended, Frames
from longtake.models.clock import _draw, _read, clock
from longtake.models.gauss import AMPLITUDE, gauss
from longtake.plan import PlanError
from longtake.plans import PLANS, plan
from longtake.script import Scene, Script

from .worlds import is_chunks, limits_for, script


def numbers(*values):
    """Clock frames (1 3 T 16 16) that show these numbers."""
    return _draw(torch.tensor([list(values)], dtype=torch.float32))


def shown(rollout):
    return torch.cat([_read(e.video) for e in rollout.run() if isinstance(e, Frames)], 1)[0].int().tolist()


def options(name):
    return dict(overlap=5) if is_chunks(name) else {}


@pytest.mark.parametrize("name", [n for n in PLANS if n != "clip"])
@pytest.mark.parametrize("count", [1, 5, 9])
def test_a_video_begins_with_its_start(name, count):
    model = clock(4, view=9, context=limits_for(name, 9).context)
    start = numbers(*range(100, 100 + count))
    assert shown(Rollout(model, script(90), plan(name, steps=4, **options(name)), start=start)) == list(range(100, 190))


@pytest.mark.parametrize("name", [n for n in PLANS if n != "clip"])
@pytest.mark.parametrize("count", [5, 9])
def test_a_video_goes_on_from_another_exactly_once(name, count):
    model = clock(4, view=9, context=limits_for(name, 9).context)
    start = numbers(*range(100 - count, 100))
    rollout = Rollout(model, script(90), plan(name, steps=4, **options(name)), start=start, extend=True)
    assert shown(rollout) == list(range(100, 190))


def test_a_start_belongs_to_the_first_shot_alone():
    timeline = Script.of([Scene("a", 1.0), Scene("b", 1.0, cut=True)], 24)
    rollout = Rollout(clock(4, view=9), timeline, plan("sliding", steps=4, overlap=5), start=numbers(50))
    assert shown(rollout) == [*range(50, 74), *range(24)]


def test_a_start_survives_a_resume():
    def rollout():
        return Rollout(
            clock(4, view=9), script(90), plan("relay", steps=4, overlap=5), start=numbers(*range(7, 12)), extend=True
        )

    run, whole, snapshots = rollout(), [], []
    for event in run.run():
        if isinstance(event, Frames):
            whole += _read(event.video)[0].int().tolist()
        if isinstance(event, Ended):
            tensors, facts = run.state()
            snapshots.append((event.frames, {k: t.clone() for k, t in tensors.items()}, facts))
    for frames, tensors, facts in snapshots[:-1]:
        again = rollout()
        again.load(tensors, facts)
        assert shown(again) == whole[frames:]


def frames_made(strategy, model, frames):
    """Frames that a plan makes, a few more than asked for if its blocks do not end there."""
    return sum(window.role.count("make") for window in strategy.windows(frames, 1, model.limits))


@pytest.mark.parametrize(
    ("name", "extra"), [("sliding", {}), ("async", dict(lag=2)), ("relay", {}), ("sliding", dict(block=3))]
)
@pytest.mark.parametrize("frames", [30, 61, 90])
def test_an_end_frame_is_come_to_and_never_shown_twice(name, extra, frames):
    """In the gauss world the mean of the last frame is that of a bridge from the known frames to the given one."""
    model, strategy = gauss(view=16, size=24), plan(name, steps=20, overlap=5, **extra)
    *_, window = strategy.windows(frames, 1, model.limits, guides=1)
    end = torch.full((1, 3, 1, 24, 24), 3.0 * AMPLITUDE)
    rollout = Rollout(model, script(frames), strategy, end=end, solver="unipc")
    video = torch.cat([e.video for e in rollout.run() if isinstance(e, Frames)], 2) / AMPLITUDE
    assert video.shape[2] == frames
    assert window.role[-1] == "guide"
    made = window.role.count("make")
    late = made - (frames_made(strategy, model, frames) - frames)  # where the last shown frame stands among the new
    expected = 3.0 * 0.9 ** (made + 1 - late) * (1 - 0.81**late) / (1 - 0.81 ** (made + 1))
    assert abs(video[:, :, -1].mean() - expected) < 0.1


def test_what_cannot_be_given_is_refused():
    for name, given, message in (
        ("sliding", dict(start=numbers(1, 2, 3)), "give 1 or 5"),
        ("sliding", dict(start=numbers(*range(33))), "all 20 frames are given"),
        ("endless", dict(end=numbers(1)), "use --plan sliding"),
        ("endless", dict(start=numbers(*range(33))), "all 20 frames are given"),
    ):
        with pytest.raises(PlanError) as error:
            list(Rollout(clock(4, view=9), script(20), plan(name, steps=4, **options(name)), **given).run())
        assert message in str(error.value)
    with pytest.raises(PlanError, match="endless"):
        list(Rollout(clock(4, view=9), script(None), plan("sliding", steps=4, overlap=5), end=numbers(1)).run())
