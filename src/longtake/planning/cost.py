"""The cost of a plan, counted without a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from longtake.planning.window import Window


@dataclass(frozen=True)
class Cost:
    """Counts of a finite plan.

    columns: latent frames that go through the network, summed over the steps. widest: latent frames of the widest window.
    """

    windows: int
    clips: int
    steps: int
    columns: int
    widest: int


def cost(windows: Iterable[Window]) -> Cost:
    """Count the windows of a finite plan."""
    count = clips = steps = columns = widest = 0
    for window in windows:
        count += 1
        clips += count == 1 or window.cut is not None
        steps += window.steps
        columns += window.steps * len(window.frames)
        widest = max(widest, len(window.frames))
    return Cost(count, clips, steps, columns, widest)
