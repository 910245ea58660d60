"""A metric: numbers read from a segment, how far those of two segments are apart, and the drift that it is made to see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from longtake.core.errors import InputError
from longtake.core.registry import load_reference
from longtake.metrics.segment import Segment

Values = tuple[float, ...]


class Measure(Protocol):
    """The code of a metric: a module, or any object, with these three functions."""

    def measure(self, segment: Segment) -> Values:
        """Return the numbers of one segment; an empty tuple if the segment does not show what the metric looks at."""
        ...

    def drift(self, now: Values, first: Values) -> float:
        """Return how far a segment is from the first one of its video: 0 if nothing changed, never negative."""
        ...

    def plant(self, frames: Tensor, strength: float) -> Tensor:
        """Return frames (T, 3, H, W) in [0, 1] with this metric's own drift, unchanged at strength 0.

        At strength 1 the drift is beyond the metric's threshold, and below half the threshold of every other metric.
        The contract tests plant it.
        """
        ...


@dataclass(frozen=True)
class Metric:
    """A measure of drift that needs no weights.

    title: the name in tables and pictures. unit: what the drift is counted in. sees: what a viewer notices when it rises.
    threshold: the drift from which on a viewer notices. code: the module with `measure`, `drift` and `plant` (its dotted
    name, imported when first used), or an object with these functions.
    """

    title: str
    unit: str
    sees: str
    threshold: float
    code: str | Measure

    def measure(self, segment: Segment) -> Values:
        """Return the numbers of one segment (see `Measure.measure`)."""
        return self._code.measure(segment)

    def drift(self, now: Values, first: Values) -> float:
        """Return how far a segment is from the first one of its video (see `Measure.drift`)."""
        return self._code.drift(now, first)

    def plant(self, frames: Tensor, strength: float) -> Tensor:
        """Return frames with this metric's own drift (see `Measure.plant`)."""
        return self._code.plant(frames, strength)

    @property
    def _code(self) -> Measure:
        owner = f"the metric {self.title!r}"
        code = load_reference(owner, self.code) if isinstance(self.code, str) else self.code
        if missing := [name for name in ("measure", "drift", "plant") if not callable(getattr(code, name, None))]:
            raise InputError(
                f"{owner} has no function {missing[0]} in {self.code!r}: see longtake.metrics.interfaces.Measure"
            )
        return cast(Measure, code)


def log_ratio(now: float, first: float, floor: float) -> float:
    """Return |ln((now + floor) / (first + floor))|. The floor keeps a change of small numbers from counting as large."""
    return abs(math.log((now + floor) / (first + floor)))
