"""Metrics register from outside the package, and a line names code that is imported when it is used."""

from types import SimpleNamespace

import pytest
import torch

import longtake
from longtake.core.registry import Registry
from longtake.eval.drift import drift_curve
from longtake.metrics import METRICS, Metric, Segment, registry
from longtake.testing.metrics import check_metric


def mean_red():
    """A metric made of functions: the mean of the red channel."""
    code = SimpleNamespace(
        measure=lambda segment: (float(segment.small[:, 0].mean()),),
        drift=lambda now, first: abs(now[0] - first[0]),
        plant=lambda frames, strength: (frames + 0.4 * strength * torch.tensor([1.0, 0, 0]).view(3, 1, 1)).clamp(0, 1),
    )
    return Metric("Red", "share", "The picture reddens.", 0.1, code)


def test_a_registered_metric_is_measured_with_the_others(monkeypatch):
    monkeypatch.setattr(registry, "METRICS", Registry("metric", Metric, dict(METRICS)))
    longtake.register_metric("red", mean_red())
    frames = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (drifts,) = drift_curve([Segment.of(frames, 24)], registry.METRICS)
    assert drifts == dict.fromkeys([*METRICS, "red"], 0.0)
    with pytest.raises(ValueError, match="called 'red' already"):
        longtake.register_metric("red", mean_red())


def test_the_contract_finds_a_metric_that_sees_the_drift_of_another():
    frames = 0.3 + 0.4 * torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    metrics = {"brightness": METRICS["brightness"], "red": mean_red()}
    with pytest.raises(AssertionError, match=r"brightness sees .* of the drift of red"):
        check_metric("red", Segment.of(frames, 24), metrics)
    check_metric("red", Segment.of(frames, 24), {"red": mean_red()})


def test_every_metric_says_what_it_is():
    for metric in METRICS.values():
        assert metric.title and metric.unit and metric.sees.endswith(".") and metric.threshold > 0
