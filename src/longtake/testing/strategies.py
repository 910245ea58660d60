"""The contract of a strategy: checks of the cases in its registry line, each an ordinary function that asserts.

For a strategy of your own, registered or installed as a plug-in:

@pytest.mark.parametrize("case", strategy_cases("mine"), ids=str)
def test_my_strategy(case):
    check_case(case)

def test_its_statistics():
    check_statistics("mine")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from longtake.core.errors import PlanError
from longtake.core.geometry import frames_of_latents, latents_of_frames
from longtake.models.toy.clock import clock
from longtake.models.toy.gaussian import gauss
from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import STRATEGIES, make_plan
from longtake.planning.window import Plan, Window, check
from longtake.testing.toys import clock_numbers, gaussian_pixels, toy_limits

VIEW = 12  # latent frames that the toy models see at once
COMPRESSIONS = (1, 4, 8)
LENGTHS = (1, 2, 5, 44, 45, 46, 83)  # output frames


@dataclass(frozen=True)
class StrategyCase:
    """A registered strategy with options, on a model of this temporal compression."""

    name: str
    temporal_compression: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [self.name, str(self.temporal_compression), *(f"{k}={v}" for k, v in self.options.items())]
        return "-".join(parts)

    @property
    def plan(self) -> Plan:
        """The plan, with few steps."""
        return make_plan(self.name, **{"steps": 6, **self.options})

    @property
    def limits(self) -> Limits:
        """The limits of a toy model that can run it."""
        return toy_limits(self.name, VIEW)

    def numbers(self, num_frames: int) -> list[int]:
        """Generate a video with a clock and return the numbers on its frames."""
        model = clock(self.temporal_compression, VIEW, self.limits.conditioning)  # type: ignore[arg-type]
        return clock_numbers(model, self.plan, num_frames)

    def length(self, num_frames: int) -> int:
        """Return the length, or less where the strategy makes one window only."""
        most = frames_of_latents(VIEW, self.temporal_compression)
        return min(num_frames, most) if self.plan.traits.single_window else num_frames


def strategy_cases(*names: str) -> list[StrategyCase]:
    """Return the cases in the registry lines of these strategies (default: of all that are registered)."""
    return [
        StrategyCase(name, compression, options)
        for name in names or STRATEGIES
        for compression in COMPRESSIONS
        for options in STRATEGIES[name].cases(compression)
    ]


def check_case(case: StrategyCase) -> None:
    """Run every check of one case."""
    check_windows(case)
    check_same_windows(case)
    check_length(case)
    check_clock(case)
    check_any_length(case)
    check_without_end(case)


# ---------------------------------------------------------------- the checks
def check_windows(case: StrategyCase) -> None:
    """Every window suits the limits, sigmas never rise, every context frame is clean, and unfinished frames go on."""
    record = _Record(case.temporal_compression)
    for window in case.plan.windows(
        case.length(97 + case.temporal_compression), case.temporal_compression, case.limits
    ):
        check(window, case.limits)
        record.follow(window)


def check_same_windows(case: StrategyCase) -> None:
    """A plan asked twice gives the same windows, and at least one: a resume asks again."""
    num_frames = case.length(97 + case.temporal_compression)
    ask = lambda: list(case.plan.windows(num_frames, case.temporal_compression, case.limits))
    one, two = ask(), ask()
    assert one, f"the plan gives no window for {num_frames} frames"
    same = len(one) == len(two) and all(
        a.frames == b.frames and torch.equal(a.sigmas, b.sigmas) for a, b in zip(one, two)
    )
    assert same, "the plan gives other windows when it is asked again"


def check_length(case: StrategyCase) -> None:
    """A plan ends with the window that finishes the last frame, and denoises nothing behind it but the rest of its block."""
    compression = case.temporal_compression
    for num_frames in sorted({case.length(length) for length in LENGTHS}):
        first, clean, last, need = 0, 0, 0, 1  # the frame at which the clip starts; its latents: clean, all, needed
        for window in case.plan.windows(num_frames, compression, case.limits):
            if window.cut:
                first, clean = first + frames_of_latents(last, compression) - window.cut.overlap, 0
            need = latents_of_frames(num_frames - first, compression)
            assert clean < need, f"a window begins when all {num_frames} frames are finished"
            shown = [i for i, role in enumerate(window.role) if role != "keyframe"]
            needed = {window.block[i] for i in shown if window.frames[i] < need}
            surplus = [window.frames[i] for i in shown if window.frames[i] >= need and window.block[i] not in needed]
            assert not surplus, f"latent frame {surplus[0]} is denoised for {num_frames} frames, which {need} hold"
            last = 1 + window.frames[shown[-1]]
            clean = max([clean, *(1 + window.frames[i] for i in shown if window.sigmas[-1, i] == 0)])
        assert clean >= need, f"the plan ends after {clean} of the {need} latent frames that hold {num_frames} frames"


def check_clock(case: StrategyCase) -> None:
    """A clock shows every number once and in order, over several windows."""
    num_frames = case.length(97 + case.temporal_compression)
    _check_numbers(case, num_frames)


def check_any_length(case: StrategyCase) -> None:
    """Any number of frames comes out exactly."""
    for num_frames in sorted({case.length(length) for length in LENGTHS}):
        _check_numbers(case, num_frames)


def check_without_end(case: StrategyCase) -> None:
    """A video without end has windows within the limits for ever, at positions that the model was trained for."""
    if case.plan.traits.single_window:
        return
    windows = list(islice(case.plan.windows(None, case.temporal_compression, case.limits), 60))
    assert len(windows) == 60, f"a video without end ends after {len(windows)} windows"
    for window in windows:
        check(window, case.limits)
        assert max(window.positions) < VIEW, f"a position of {max(window.positions)} with {VIEW} frames in view"


def check_statistics(name: str) -> None:
    """A Gaussian model keeps its variance within 3 % and its correlation within 0.02, to the end of the video.

    The registry line's `statistics` names the options for which that must hold.
    """
    strategy, view = STRATEGIES[name], 16
    plan = make_plan(name, **{"steps": 40, "shift": 1.0, **strategy.statistics})
    single = plan.traits.single_window
    model = gauss(max_latent_frames=view, size=72 if single else 40, conditioning=strategy.conditioning)  # type: ignore[arg-type]
    video = gaussian_pixels(model, plan, view if single else 60, solver="unipc")
    variance = video.var()
    correlation = (video[:, :, 1:] * video[:, :, :-1]).mean() / variance
    assert abs(variance - 1) < 0.03, f"the variance is {variance:.3f}, not 1"
    assert abs(correlation - 0.9) < 0.02, f"the correlation of neighbouring frames is {correlation:.3f}, not 0.9"
    assert abs(video[:, :, -15:].var() - 1) < 0.05, "the variance of the last frames has drifted"


def check_request(case: StrategyCase, num_frames: int, max_latent_frames: int) -> None:
    """Options that need not make sense either give every frame, or are refused with a sentence.

    With AdaIN the frames are only counted: it moves the latents of a clock, and so the numbers that it shows.
    """
    model = clock(case.temporal_compression, max_latent_frames, case.limits.conditioning)  # type: ignore[arg-type]
    try:
        plan = make_plan(case.name, **case.options)
        numbers = clock_numbers(model, plan, num_frames)
    except PlanError as error:
        assert len(str(error)) > 20, f"{error!r} says too little"
        return
    windows = plan.windows(num_frames, case.temporal_compression, model.limits)
    if any(window.adain for window in windows):
        assert len(numbers) == num_frames
    else:
        assert numbers == list(range(num_frames))


def _check_numbers(case: StrategyCase, num_frames: int) -> None:
    numbers = case.numbers(num_frames)
    wrong = next((i for i, (have, want) in enumerate(zip(numbers, range(num_frames))) if have != want), None)
    assert len(numbers) == num_frames, f"{len(numbers)} frames come out instead of {num_frames}"
    assert wrong is None, f"frame {wrong} of {num_frames} shows frame {numbers[wrong or 0]}"


class _Record:
    """What is known of the latent frames of the current clip after some windows.

    clean: frames that are denoised. left: the sigma of frames that a window left unfinished. done: frames handed over.
    """

    def __init__(self, temporal_compression: int) -> None:
        self.temporal_compression = temporal_compression
        self.clean: set[int] = set()
        self.left: dict[int, float] = {}
        self.done = 0

    def follow(self, window: Window) -> None:
        """Check a window against what is known, and take over what it denoises."""
        if window.cut:
            self.clean = set(range(latents_of_frames(window.cut.overlap, self.temporal_compression)))
            self.left, self.done = {}, 0
        shown = [f for f, role in zip(window.frames, window.role) if role != "keyframe"]
        revisable = set(shown[len(shown) - window.revisable :])
        for frame, column, moves, role in zip(window.frames, window.sigmas.T, window.moves.tolist(), window.role):
            if role == "keyframe":
                continue
            first, last = float(column[0]), float(column[-1])
            if frame in self.left:
                assert first == self.left[frame], f"frame {frame} starts at sigma {first}, not at {self.left[frame]}"
                assert first == float(window.sigmas.max()) or window.text == "frame", "unfinished frames share a prompt"
            assert moves or first > 0 or frame in self.clean, f"frame {frame} is context, but nothing denoised it"
            if moves and last == 0:
                assert frame not in self.clean or frame >= self.done, f"frame {frame} was handed over already"
                self.clean.add(frame)
            self.left = {f: s for f, s in self.left.items() if f != frame} | ({frame: last} if moves and last else {})
            if frame in self.clean and frame not in revisable and frame == self.done:
                self.done = frame + 1
