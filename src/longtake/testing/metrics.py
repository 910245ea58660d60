"""The contract of a metric: it sees the drift that it is made for within two segments, and the drift of no other metric."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from longtake.metrics import METRICS, Metric, Segment, Values

STRENGTHS = (0.5, 1.0)  # of the drift in the two segments after the first one
OTHERS = 0.5  # of its threshold, the most that another metric may see


def check_metric(name: str, footage: Segment, metrics: Mapping[str, Metric] = METRICS) -> None:
    """Plant the drift of one metric in footage and compare what all metrics see. Raises AssertionError.

    The planted video repeats the footage segment after segment, so that nothing changes but the planted drift. The metric
    must be 0 without drift and beyond its threshold within two segments, every other metric below half of its own.
    Check a new metric together with the existing ones, under every name: metrics = {**METRICS, "mine": MINE}.
    """
    first = {other: footage.once(metric.measure) for other, metric in metrics.items()}
    _check_numbers(name, metrics[name], first[name], footage.once(float_frames))
    seen = [planted_drift(name, strength, footage, first, metrics) for strength in STRENGTHS]
    own = max(drifts[name] for drifts in seen)
    assert own > 1, f"{name} sees {own:.2f} of its threshold of its own drift"
    for other in metrics:
        worst = max(drifts[other] for drifts in seen)
        assert other == name or worst < OTHERS, f"{other} sees {worst:.2f} of its threshold of the drift of {name}"


def planted_drift(
    name: str, strength: float, footage: Segment, first: Mapping[str, Values], metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Return what every metric sees of the planted drift of one, in units of its threshold."""
    frames = metrics[name].plant(footage.once(float_frames), strength)
    segment = Segment.of(frames, footage.fps)
    return {
        other: metric.drift(metric.measure(segment), first[other]) / metric.threshold
        for other, metric in metrics.items()
    }


def float_frames(footage: Segment) -> Tensor:
    """Return all frames of a segment as float (T, 3, H, W) in [0, 1]."""
    return torch.cat(list(footage.floats()))


def _check_numbers(name: str, metric: Metric, first: Values, frames: Tensor) -> None:
    """Check the text of a metric, that its numbers are finite, and that it sees no drift where there is none."""
    assert metric.title and metric.unit and metric.sees.endswith("."), f"{name} needs a title, a unit and a sentence"
    assert metric.threshold > 0, f"{name} has the threshold {metric.threshold}, which every segment is beyond"
    assert all(map(math.isfinite, first)), f"{name} measures {first}, which is not finite"
    assert metric.drift(first, first) == 0, f"{name} sees drift between a segment and itself"
    assert torch.allclose(metric.plant(frames, 0.0), frames, atol=1e-6), f"{name} plants drift of strength 0"
