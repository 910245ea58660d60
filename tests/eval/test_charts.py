"""A drift chart has a panel for every metric and a line for every arm."""

from xml.etree import ElementTree

import torch

from longtake.eval.charts import drift_chart
from longtake.metrics import METRICS


def test_a_chart_has_a_line_for_every_arm_and_a_panel_for_every_metric():
    curves = {arm: {name: torch.rand(3, 5) for name in METRICS} for arm in ("base", "a < b")}
    drawn = drift_chart(curves, METRICS)
    ElementTree.fromstring(drawn)
    assert drawn.count("<polyline") == 2 * len(METRICS) and "a &lt; b" in drawn
    assert all(metric.title in drawn for metric in METRICS.values())


def test_curves_that_stay_at_zero_are_drawn_too():
    ElementTree.fromstring(drift_chart({"still": {name: torch.zeros(1, 1) for name in METRICS}}, METRICS))
