"""Drift metrics: each rises on the drift planted for it and stays quiet on the others; slopes and intervals are right."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, pad

from longtake.eval.drift import METRICS, bootstrap, look, measured, paired_ratio, slopes, start_end, svg
from longtake.world import Clip, Facts, Scene, render

CLIPS, FRAMES = 4, 72  # two hops of a bounce each
FACTS = Facts("red", "square", "bounce", "day")


def clip(number, facts=FACTS, slow=1.0):
    """Frames of clip `number`, which follow one another; slow: of how many frames only one is shown."""
    made = Clip((Scene(facts),), 5)
    picture = render(made, number * FRAMES, (number + 1) * FRAMES).frames
    return picture[(torch.arange(FRAMES) / slow).long()]


def blurred(frames, share):
    soft = avg_pool2d(pad(frames, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return frames + share * (soft - frames)


def tinted(frames, share):
    return (frames + share * torch.tensor([0.05, -0.01, -0.05])[:, None, None]).clamp(0, 1)


def flattened(frames, share):
    """Less contrast, as far as the judge still sees the whole sprite: its shaded rim leaves the palette first."""
    return 0.5 + (1 - 0.25 * share) * (frames - 0.5)


def recoloured(number, share):
    """The sprite goes over to another colour; the scenery stays."""
    plain, other = clip(number), clip(number, Facts("orange", "square", "bounce", "day"))
    return plain + 0.3 * share * (other - plain)


def reshaped(number, share):
    """Part of the sprite is cut away: a square loses a corner, and then half."""
    made = Clip((Scene(FACTS),), 5)
    whole = render(made, number * FRAMES, (number + 1) * FRAMES)
    back = render(Clip((Scene(Facts("red", "triangle", "bounce", "day")),), 5), number * FRAMES, (number + 1) * FRAMES)
    return whole.frames if share < 0.3 else back.frames


PLANTED = {
    "colour": lambda number, share: tinted(clip(number), share),
    "sharpness": lambda number, share: blurred(clip(number), share),
    "contrast": lambda number, share: flattened(clip(number), share),
    "motion": lambda number, share: clip(number, slow=1 + 2 * share),
    "shape": reshaped,
    "identity": recoloured,
}


def curve(plant):
    """Metrics (N clips) of a video with a drift that grows from clip to clip."""
    clips = [plant(number, number / (CLIPS - 1)) for number in range(CLIPS)]
    first = look(clips[0])
    return {name: torch.tensor([measured(look(c), first)[name] for c in clips]) for name in METRICS}


@pytest.fixture(scope="module")
def curves():
    return {"nothing": curve(lambda number, share: clip(number)), **{name: curve(p) for name, p in PLANTED.items()}}


def test_a_video_that_does_not_drift_is_quiet(curves):
    for name in METRICS:
        assert float(curves["nothing"][name].max()) < 0.1, name


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_rises_on_its_own_drift_and_on_no_other(curves, name):
    """As slopes per clip. A square that becomes a triangle shows more of the scenery, and moves with less of an edge:
    0.3 of what sharpness and motion see of their own drifts; nothing else comes near that."""
    rise = {plant: float(slopes(found[name][None])) for plant, found in curves.items()}
    assert rise[name] > 3 * max(0.006, rise["nothing"])
    for other in METRICS:
        if other != name:
            assert abs(rise[other]) < (0.35 if other == "shape" else 0.2) * rise[name], (
                f"{name} sees the drift of {other}"
            )


def test_slopes_and_ends():
    line = torch.arange(8, dtype=torch.float64)[None] * torch.tensor([[2.0], [0.5]])
    assert slopes(line).tolist() == pytest.approx([2.0, 0.5])
    assert start_end(line).tolist() == pytest.approx([12.0, 3.0])


def test_intervals_cover_the_truth_as_often_as_they_say():
    chance, hits, paired = torch.Generator().manual_seed(0), 0, 0
    for trial in range(200):
        base = 1.0 + 0.5 * torch.randn(24, generator=chance, dtype=torch.float64)
        arm = 0.5 * base + 0.05 * torch.randn(24, generator=chance, dtype=torch.float64)
        mean, ratio = bootstrap(base, 400, trial), paired_ratio(arm, base, 400, trial)
        hits, paired = hits + (mean.low <= 1.0 <= mean.high), paired + (ratio.low <= 0.5 <= ratio.high)
    assert hits > 174 and paired > 174
    assert bootstrap(torch.ones(5)).low == bootstrap(torch.ones(5)).high == 1.0
    assert paired_ratio(torch.ones(4), torch.zeros(4)).high == float("inf")
    assert str(paired_ratio(torch.zeros(4), torch.zeros(4))) == "-"


def test_the_picture_has_a_line_for_every_arm(curves):
    arms = {name: {m: c[None] for m, c in curve.items()} for name, curve in list(curves.items())[:2]}
    made = svg(arms)
    assert made.count("<polyline") == 2 * len(METRICS) and "nothing" in made
