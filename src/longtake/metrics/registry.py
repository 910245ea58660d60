"""The metrics of any footage: one line each. A new metric is a file in this folder and a line here; nothing else names it."""

from __future__ import annotations

from longtake.core.registry import Registry
from longtake.metrics.interfaces import Metric

METRICS: Registry[Metric] = Registry("metric", Metric, {
    "brightness": Metric("Brightness", "share of white", "The picture becomes brighter or darker.", 0.05, "longtake.metrics.brightness"),
    "contrast": Metric("Contrast", "log ratio", "The picture fades, or burns in.", 0.2, "longtake.metrics.contrast"),
    "colour": Metric("Colour", "CIELAB units", "The picture takes a colour cast.", 4.0, "longtake.metrics.colour_cast"),
    "sharpness": Metric("Sharpness", "log ratio", "The picture blurs, or is over-sharpened.", 0.2, "longtake.metrics.sharpness"),
    "noise": Metric("Noise", "log ratio", "The picture becomes noisy.", 0.4, "longtake.metrics.noise"),
    "colour_noise": Metric("Colour noise", "log ratio", "Speckles of colour appear.", 0.4, "longtake.metrics.colour_noise"),
    "motion": Metric("Motion", "log ratio", "Motion slows down, stops, or speeds up.", 0.4, "longtake.metrics.motion"),
    "flicker": Metric("Flicker", "log ratio", "The light pumps.", 0.7, "longtake.metrics.flicker"),
}, group="longtake.metrics")  # fmt: skip


def register_metric(name: str, metric: Metric) -> None:
    """Add a metric from another package while the program runs; the entry points "longtake.metrics" do it for good."""
    METRICS.register(name, metric)
