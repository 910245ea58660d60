"""Measures of video that need no weights, on any footage: pixels in, numbers out."""

from longtake.metrics.interfaces import Measure, Metric, Values, log_ratio
from longtake.metrics.registry import METRICS, register_metric
from longtake.metrics.segment import Segment

__all__ = ["METRICS", "Measure", "Metric", "Segment", "Values", "log_ratio", "register_metric"]
