"""Measures of drift that know the pocket world: whether its sprite keeps its shape and its colour."""

from longtake.pocket.metrics.registry import POCKET_METRICS

__all__ = ["POCKET_METRICS"]
