"""Step caching calibration: a polynomial from the change of the timestep embedding to the change of the residual.

The residual is what all blocks together add to the tokens. TeaCache (Liu et al. 2024) publishes such polynomials;
`python -m longtake.eval.step_cache` fits one to any network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.core.errors import InputError
from longtake.core.files import json_object, read_text

if TYPE_CHECKING:
    from torch import Tensor


class StepCacheError(InputError):
    """Step caching that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Calibration:
    """How much the residual is expected to change when the timestep embedding changes.

    coefficients: of the polynomial in the relative change of the embedding, highest power first. projected: measure the
    embedding that modulates the blocks (Wan's e0), else the embedding of the output head (e). first, last: steps at the
    start and at the end of every frame's denoising that are always computed.
    """

    coefficients: tuple[float, ...]
    projected: bool = True
    first: int = 5
    last: int = 0

    def expected(self, change: Tensor) -> Tensor:
        """Return the expected relative change of the residual for a relative change of the embedding; never below 0."""
        total = change * 0
        for coefficient in self.coefficients:
            total = total * change + coefficient
        return total.clamp_min(0)

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Calibration:
        """Build a calibration from its JSON values. StepCacheError if they are not those of a calibration."""
        try:
            return Calibration(**{**facts, "coefficients": tuple(float(c) for c in facts["coefficients"])})
        except (ValueError, KeyError, TypeError) as error:
            raise StepCacheError(f"{facts} is not a step caching calibration ({error}): calibrate again") from error

    def facts(self) -> dict[str, Any]:
        """Return the calibration as JSON values."""
        return asdict(self) | {"coefficients": list(self.coefficients)}

    @staticmethod
    def read(path: Path | str) -> Calibration:
        """Read a file that `longtake.eval.step_cache` wrote. StepCacheError if it is not a calibration."""
        try:
            return Calibration.from_facts(json_object(read_text(Path(path))))
        except (OSError, ValueError) as error:
            raise StepCacheError(f"{path} is not a step caching calibration ({error}): calibrate again") from error

    def write(self, path: Path | str) -> None:
        """Write the calibration as JSON."""
        Path(path).write_text(json.dumps(self.facts(), indent=2) + "\n", encoding="utf-8", newline="\n")
