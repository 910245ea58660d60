"""Drift: how far each segment of a long video is from its first segment, by every metric of a table.

A curve starts at 0 and stays there while nothing changes. Metrics of any footage are `longtake.metrics.METRICS`; videos of
the built-in models also have those of `longtake.pocket.metrics.POCKET_METRICS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from longtake.metrics import METRICS, Metric, Segment, Values


def measure(segment: Segment, metrics: Mapping[str, Metric] = METRICS) -> dict[str, Values]:
    """Return the numbers of a segment, {metric: values}."""
    return {name: metric.measure(segment) for name, metric in metrics.items()}


def drift(
    now: Mapping[str, Values], first: Mapping[str, Values], metrics: Mapping[str, Metric] = METRICS
) -> dict[str, float]:
    """Return the drift from the numbers of the first segment to those of another one, {metric: drift}."""
    return {name: metric.drift(now[name], first[name]) for name, metric in metrics.items()}


def drift_curve(segments: Iterable[Segment], metrics: Mapping[str, Metric] = METRICS) -> Iterator[dict[str, float]]:
    """Yield the drift of each segment of a video against its first one, in constant memory."""
    first = None
    for segment in segments:
        now = measure(segment, metrics)
        first = first or now
        yield drift(now, first, metrics)
