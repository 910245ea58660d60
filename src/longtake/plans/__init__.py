"""The strategies for long video, by name. Each is a setting of a planner; a new one is one line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Protocol

from longtake.plan import Limits, PlanError, Window
from longtake.plans.chunks import Chunks
from longtake.plans.levels import Sampled
from longtake.plans.looping import Looping
from longtake.plans.stream import Stream


class Plan(Sampled, Protocol):
    """A strategy with its options."""

    @property
    def seam(self) -> int:
        """Output frames that the engine must keep to hand over at a cut."""

    def windows(
        self, frames: int | None, stride: int, limits: Limits, known: int = 0, guides: int = 0
    ) -> Iterator[Window]:
        """The windows that make `frames` output frames (None: without end).

        known latents are given at the start; guides latents follow the last window, seen by it and never shown.
        """


@dataclass(frozen=True)
class Strategy:
    """A named setting of a planner."""

    planner: type
    about: str
    defaults: dict[str, Any]


PLANS: dict[str, Strategy] = {
    "clip": Strategy(Chunks, "one clip, all frames fall together", dict(single=True, overlap=0)),
    "relay": Strategy(Chunks, "clips; the last frames of one start the next (LTX)", dict(hand="pixels", overlap=1)),
    "sliding": Strategy(Chunks, "windows that overlap by clean frames (SkyReels-V2)", dict()),
    "soft": Strategy(Chunks, "windows whose overlap is remade from half its noise and cross-faded", dict(strength=0.5)),
    "looping": Strategy(
        Looping, "tiles from fresh noise, led by copies of the tail, cross-faded (LTX looping)", dict()
    ),
    "crossclip": Strategy(
        Chunks, "clips told of the last frames beside x (SVI)", dict(hand="pixels8", overlap=1, beside=True)
    ),
    "async": Strategy(Chunks, "a staircase inside each window (SkyReels-V2 ar_step)", dict(lag=5)),
    "endless": Strategy(Stream, "one staircase under a sliding view (diffusion forcing)", dict(lag=0, least=2)),
    "rolling": Strategy(
        Stream, "the staircase fills the view; a step per block (rolling forcing)", dict(lag=0, eager=True, past=3)
    ),
    "blocks": Strategy(Stream, "block by block, autoregressive (Self-Forcing, LongLive)", dict(lag=None, eager=True)),
}


def plan(name: str, **options: Any) -> Plan:
    """The plan of that name with the options given (see `Chunks`, `Looping` and `Stream`). PlanError says what exists."""
    if name not in PLANS:
        raise PlanError(f"no plan is called {name!r}: {_suggest(name, PLANS)}")
    strategy = PLANS[name]
    known = [field.name for field in fields(strategy.planner)]
    for option in options:
        if option not in known:
            raise PlanError(f"plan {name} has no option {option!r}: {_suggest(option, known)}")
    return strategy.planner(**{**strategy.defaults, **options})


STAIRCASES = {"sliding", "async"}  # the same windows, of which one makes its frames one after the other


def suited(name: str, own: str, options: Mapping[str, Any], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model for a plan. own: its own plan, with `options`; other plans take `sampling` alone, but for a
    staircase in the same windows, which knows as much of the window before as they do."""
    return dict(options if name == own or {name, own} == STAIRCASES else sampling)


RAMP = ("steps", "shift", "grid")  # of noise levels that are not listed


def chosen(own: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model, and those asked for before them. Levels that the model lists give way to a ramp that is
    asked for. PlanError if levels are listed and a ramp is asked for as well."""
    ramp = [name for name in RAMP if name in asked]
    if ramp and asked.get("levels"):
        raise PlanError(f"--levels lists all noise levels, so --{ramp[0]} says nothing: give one of them")
    return {name: value for name, value in own.items() if not (ramp and name == "levels")} | dict(asked)


def _suggest(word: str, known) -> str:
    close = get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
