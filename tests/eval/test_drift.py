"""Drift is 0 while nothing changes and rises, segment by segment, with the drift that is planted."""

import pytest
import torch

from longtake.eval.drift import drift, drift_curve, measure
from longtake.eval.intervals import slopes
from longtake.metrics import METRICS, Segment
from longtake.pocket import Clip, Facts, Scene, render
from longtake.pocket.metrics import POCKET_METRICS

ALL = {**METRICS, **POCKET_METRICS}
SEGMENTS, FRAMES = 4, 72  # two hops of a bounce in each segment
CLIP = Clip((Scene(Facts("red", "star", "bounce", "sea")),), 5)


def segments(name=None):
    """Consecutive segments of a pocket clip, with the drift of one metric growing from 0 to its full strength."""
    for number in range(SEGMENTS):
        frames = render(CLIP, number * FRAMES, (number + 1) * FRAMES).frames
        yield Segment.of(ALL[name].plant(frames, number / (SEGMENTS - 1)) if name else frames, 24)


def test_a_video_that_does_not_drift_stays_near_zero():
    for drifts in drift_curve(segments(), ALL):
        assert all(value < 0.5 * ALL[name].threshold for name, value in drifts.items()), drifts


@pytest.mark.parametrize("name", ALL)
def test_a_curve_rises_with_the_drift_of_its_metric(name):
    curve = torch.tensor([drifts[name] for drifts in drift_curve(segments(name), {name: ALL[name]})])
    assert curve[0] == 0 and curve[-1] > ALL[name].threshold
    assert float(slopes(curve[None])) > 0.25 * ALL[name].threshold


def test_a_curve_is_the_drift_of_each_segment_from_the_first_one():
    first, second = list(segments("contrast"))[::3]
    numbers = [measure(segment) for segment in (first, second)]
    assert list(drift_curve([first, second])) == [drift(now, numbers[0]) for now in numbers]
    assert list(numbers[0]) == list(METRICS)
