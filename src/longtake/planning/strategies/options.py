"""Options: the fields of a planner as a user sees them, and the checks that several planners share. All without torch.

A planner is a frozen dataclass with a field `schedule` (the options of all strategies: steps, shift, sigma_spacing,
sigmas) and fields of its own. Its docstring says in a `name: text` entry what each of them does: that is the help of the
flag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_type_hints

from longtake.core.errors import PlanError
from longtake.core.flat_config import field_docs
from longtake.core.geometry import frames_of_latents, is_whole, nearest_whole
from longtake.core.sigmas import SigmaSchedule
from longtake.planning.limits import Limits

SCHEDULE_OPTIONS = tuple(f.name for f in fields(SigmaSchedule))


@dataclass(frozen=True)
class Option:
    """An option that a user may set. type: as annotated, such as int | None; default: the planner's."""

    name: str
    type: Any
    default: Any
    help: str


def fixed(default: Any) -> Any:
    """Declare a field that the name of the strategy sets, and no flag."""
    return field(default=default, metadata={"fixed": True})


def options_of(planner: type) -> dict[str, Option]:
    """Return the options of a planner that a user may set, those of its sigma schedule first."""
    return {**_fields(SigmaSchedule), **{name: o for name, o in _fields(planner).items() if name != "schedule"}}


def build(planner: type, options: Mapping[str, Any]) -> Any:
    """Make a planner from options, of which some belong to its sigma schedule."""
    schedule = {name: value for name, value in options.items() if name in SCHEDULE_OPTIONS}
    own = {name: value for name, value in options.items() if name not in SCHEDULE_OPTIONS}
    return planner(schedule=SigmaSchedule(**schedule), **own)


def _fields(owner: Any) -> dict[str, Option]:
    kinds, found = get_type_hints(owner), {}
    texts = field_docs(owner)
    for f in fields(owner):
        if not f.metadata.get("fixed"):
            default = None if f.default is MISSING else f.default
            found[f.name] = Option(f.name, kinds[f.name], default, texts.get(f.name, ""))
    return found


# ---------------------------------------------------------------- checks
def require(condition: bool, message: str) -> None:
    """Raise PlanError with the message unless the condition holds."""
    if not condition:
        raise PlanError(message)


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise PlanError unless the option has one of its choices."""
    require(value in choices, f"--{name.replace('_', '-')} is one of {', '.join(choices)}, not {value!r}")


def require_least(name: str, value: float, least: int) -> None:
    """Raise PlanError if the option is below its smallest value, or not finite."""
    require(least <= value < math.inf, f"--{name.replace('_', '-')} must be {least} or more, not {value}")


def require_count(name: str, value: Any, words: tuple[str, ...] = ()) -> None:
    """Raise PlanError unless an option is a whole number from 0 on, or one of the words that it takes."""
    if value in words:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanError(f"--{name.replace('_', '-')} is {' or '.join(['a whole number', *words])}, not {value!r}")
    require_least(name, value, 0)


def require_share(name: str, value: float) -> None:
    """Raise PlanError unless the option lies in [0, 1]."""
    require(0 <= value <= 1, f"--{name.replace('_', '-')} must lie in [0, 1], not {value}")


def require_strength(value: float) -> None:
    """Raise PlanError unless a strength lies in (0, 1]: 1 keeps what is given, 0 would keep nothing of it."""
    require(0 < value <= 1, f"--strength must lie in (0, 1], not {value}")


def require_whole(name: str, num_frames: int, temporal_compression: int) -> None:
    """Raise PlanError unless output frames fill whole latent frames, 1 + temporal_compression * k."""
    if not is_whole(num_frames, temporal_compression):
        low, high = nearest_whole(num_frames, temporal_compression)
        raise PlanError(
            f"--{name} {num_frames} does not fill whole latent frames of {temporal_compression}: "
            f"use {low if low == high else f'{low} or {high}'}"
        )


def window_frames(window: int | None, temporal_compression: int, limits: Limits) -> int:
    """Return the output frames of a window: the option --window, or all that the model sees at once (None).

    Raise PlanError if they do not fill whole latent frames, or are more than the model sees.
    """
    most = frames_of_latents(limits.max_latent_frames, temporal_compression)
    if window is None:
        return most
    require_whole("window", window, temporal_compression)
    require(window <= most, f"--window {window} is longer than this model sees at once: use at most {most}")
    return window


def require_new_frames(num_frames: int | None, given_latents: int, temporal_compression: int) -> None:
    """Raise PlanError if the frames that a user gives are the whole video."""
    require(
        num_frames is None or num_frames > frames_of_latents(given_latents, temporal_compression),
        f"all {num_frames} frames are given: ask for more",
    )


def require_end(num_frames: int | None, end_latents: int) -> None:
    """Raise PlanError if a video without end is to have a last frame."""
    require(not (end_latents and num_frames is None), "an endless video has no last frame: give a length")
