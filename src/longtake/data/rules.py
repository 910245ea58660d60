"""Rules: the limits that a shot must meet to be used for training. Their fields are flags of `longtake data prepare`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from longtake.core.errors import InputError
from longtake.core.options import SHOTS, option


class RuleError(InputError):
    """A limit that makes no sense."""


@dataclass(frozen=True)
class Rules:
    """The limits that a shot must meet to be kept; 0 turns a lower limit off. `ShotMetrics` says how each is measured."""

    min_seconds: float = option(1.0, "Minimum length of a shot in seconds.", SHOTS)
    min_side: int = option(240, "Minimum length of the shorter side in pixels.", SHOTS)
    min_sharpness: float = option(12.0, "Minimum variance of the Laplacian.", SHOTS)
    min_motion: float = option(0.4, "Minimum change of grey values within an eighth of a second.", SHOTS)
    min_brightness: float = option(16.0, "Minimum mean brightness, 0 to 255.", SHOTS)
    max_brightness: float = option(239.0, "Maximum mean brightness, 0 to 255.", SHOTS)
    max_text_share: float | None = option(None, "Maximum share of a frame that text may cover; needs --text.", SHOTS)
    duplicates: bool = option(False, "Drop shots that look like an earlier one of nearly the same length.", SHOTS)

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise RuleError(f"--{limit.name.replace('_', '-')} must be 0 or more, not {value}")
        if self.min_brightness >= self.max_brightness:
            raise RuleError(
                f"--min-brightness {self.min_brightness:g} must be below --max-brightness {self.max_brightness:g}"
            )
