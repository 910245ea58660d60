"""The metrics of the pocket world, which know its sprite: one line each, beside those of any footage."""

from __future__ import annotations

from longtake.core.registry import Registry
from longtake.metrics.interfaces import Metric

POCKET_METRICS: Registry[Metric] = Registry("metric of the pocket world", Metric, {
    "shape": Metric("Shape", "overlap", "The sprite melts, or becomes another shape.", 0.1, "longtake.pocket.metrics.shape"),
    "identity": Metric("Identity", "RGB distance", "The sprite takes another colour.", 0.06, "longtake.pocket.metrics.identity"),
})  # fmt: skip
