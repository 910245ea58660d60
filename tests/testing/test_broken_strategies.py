"""The contract checks catch planners that are wrong, each for what is wrong with it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.core.geometry import latents_of_frames
from longtake.core.sigmas import DEFAULT_SCHEDULE, SigmaSchedule, sigmas_of
from longtake.engine.events import WindowDone
from longtake.models import load
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.strategies.registry import STRATEGIES, Strategy, make_plan, register_strategy
from longtake.planning.window import PlanTraits, Window
from longtake.testing.strategies import StrategyCase, check_case


@dataclass(frozen=True)
class Blocks:
    """Two new frames after two context frames, changed by `alter`."""

    schedule: SigmaSchedule = DEFAULT_SCHEDULE
    traits: ClassVar[PlanTraits] = PlanTraits()
    alter: ClassVar[Callable] = staticmethod(lambda windows: windows)
    extra: ClassVar[int] = 0  # latent frames more than the video needs

    def windows(self, num_frames, temporal_compression, limits, given_latents=0, end_latents=0):
        """Give the windows."""
        total = latents_of_frames(num_frames or 10**6, temporal_compression)
        return self.alter(_windows(sigmas_of(self.schedule), total + self.extra))


def _windows(sigmas, total):
    for first in range(0, total, 2):
        context, new = min(first, 2), min(2, total - first)
        table = sigmas[:, None].repeat(1, context + new)
        table[:, :context] = 0
        yield Window(range(first - context, first + new), table)


def _each(change):
    return lambda windows: (change(window) for window in windows)


def _twice(windows):
    for i, window in enumerate(windows):
        yield from [window] * (1 + (i == 2))


WRONG = {
    "a window twice": (_twice, "handed over already"),
    "a window left out": (lambda windows: (w for i, w in enumerate(windows) if i != 2), "nothing denoised it"),
    "no window": (lambda windows: iter(()), "no window"),
    "too few windows": (lambda windows: (w for i, w in enumerate(windows) if i < 9), "the plan ends after"),
    "sigmas that are no numbers": (_each(lambda w: replace(w, sigmas=w.sigmas * float("nan"))), "must lie in"),
    "sigmas that rise": (_each(lambda w: replace(w, sigmas=w.sigmas.flip(0))), "never rise"),
    "one row": (_each(lambda w: replace(w, sigmas=w.sigmas[:1])), "generates nothing"),
    "no frames": (lambda windows: iter([Window([], torch.zeros(2, 0))]), "generates nothing"),
    "frames before the first": (_each(lambda w: replace(w, frames=[f - 1 for f in w.frames])), "numbered from 0"),
    "a blend of another length": (_each(lambda w: replace(w, blend=torch.ones(9))), "a value for each"),
    "other windows each time": (
        _each(lambda w: replace(w, sigmas=torch.where(w.moves, w.sigmas * random.uniform(0.99, 1), w.sigmas))),
        "asked again",
    ),
}


@pytest.fixture
def registered():
    """Register a strategy of a planner, and take it away again."""
    names = []

    def register(planner, **line):
        register_strategy("broken", Strategy(planner, "Broken", "for the contract", **line))
        names.append("broken")

    yield register
    for name in names:
        STRATEGIES.remove(name)


def test_the_planner_without_a_fault_keeps_the_contract(registered):
    registered(Blocks)
    check_case(StrategyCase("broken", 4))


@pytest.mark.parametrize("fault", WRONG)
def test_the_contract_names_what_is_wrong_with_a_plan(fault, registered):
    alter, message = WRONG[fault]
    registered(type("Altered", (Blocks,), {"alter": staticmethod(alter)}))
    with pytest.raises((AssertionError, PlanError), match=message):
        check_case(StrategyCase("broken", 4))


@pytest.mark.parametrize(("extra", "message"), [
    (1, "is denoised for"), (2, "is denoised for"), (12, "is denoised for|begins when all"), (-1, "the plan ends after"),
])  # fmt: skip
def test_the_contract_names_a_plan_of_another_length(extra, message, registered):
    registered(type("Longer", (Blocks,), {"extra": extra}))
    with pytest.raises(AssertionError, match=message):
        check_case(StrategyCase("broken", 4))


def _long(windows):
    """Two windows more, behind the last one."""
    last = None
    for last in windows:
        yield last
    for n in (1, 2):
        yield replace(last, frames=[f + 2 * n for f in last.frames])


LENGTHS = {
    "early": (lambda windows: islice(windows, 2), r"'broken' ends its plan after 13 frames of a video of 61 frames"),
    "before its first window": (lambda windows: iter(()), r"'broken' ends its plan after 0 frames of a video of 61"),
    "late": (_long, r"'broken' plans window 8 .from 0. behind the end of a video of 61 frames"),
}


@pytest.mark.parametrize("ends", LENGTHS)
def test_the_engine_refuses_a_plan_of_another_length(ends, registered):
    alter, message = LENGTHS[ends]
    registered(type("Odd", (Blocks,), {"alter": staticmethod(alter)}))
    settings = RunSettings.of(load("clock"), "a ball", num_frames=61, strategy="broken")
    events = []
    with pytest.raises(PlanError, match=message):
        for event in settings.new_rollout(load("clock")).run():
            events.append(event)
    assert sum(isinstance(event, WindowDone) for event in events) == {"late": 6}.get(
        ends, 0
    )  # refused before the windows ahead


def test_the_engine_refuses_a_plan_that_ends_a_video_without_end(registered):
    registered(type("Odd", (Blocks,), {"alter": staticmethod(lambda windows: islice(windows, 5))}))
    settings = RunSettings.of(load("clock"), "a ball", endless=True, strategy="broken")
    with pytest.raises(PlanError, match="'broken' ends its plan after 37 frames of a video without end"):
        list(settings.new_rollout(load("clock")).run())


def test_a_planner_that_is_no_plan_is_refused_when_it_is_registered(registered):
    for planner in (object, dataclass(type("NoSchedule", (), {}))):
        with pytest.raises(PlanError, match=r"'Broken'.* is no plan"):
            registered(planner)
    with pytest.raises(PlanError, match="a default for 'nonsense'"):
        registered(Blocks, defaults=dict(nonsense=3))
    with pytest.raises(PlanError, match="not a Strategy"):
        register_strategy("broken", None)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [dict(overlap="5"), dict(overlap=5.0), dict(overlap=True), dict(steps="4")])
def test_an_option_of_another_type_is_refused(options):
    with pytest.raises(PlanError, match="must be a whole number"):
        make_plan("sliding", **options)
