"""Which window comes next: a plan for every shot of a script, which may change behind the windows that have begun."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Literal

import torch

from longtake.geometry import frames_of_latents
from longtake.plan import Cut, Limits, PlanError, Role, Window, check
from longtake.plans import Plan
from longtake.plans.levels import ladder
from longtake.script import Scene, Script

Opening = Literal["new", "anchor", "resample"]
LIGHT = 0.4  # noise level from which an anchor is re-sampled: what is seen stays, how it looks follows the prompt


@dataclass(frozen=True)
class Planned:
    """A window of a video. first, end: the output frames at which its shot begins and ends (None: endless).

    opening: how its shot begins, on the first window of every shot but the first: knowing nothing ("new"), with the
    anchor, or with the anchor re-sampled. light: the window that re-samples it. last: nothing of its take follows.
    """

    window: Window
    first: int
    end: int | None
    opening: Opening | None = None
    light: bool = False
    last: bool = False


@dataclass(frozen=True)
class Shots:
    """All that decides the windows of a video.

    decide(before, scene): how a scene opens (None: it goes on). known latents, `before` output frames that were shown
    already, come first; ends: a guide stands at the end of the video.
    """

    script: Script
    plan: Plan
    limits: Limits
    stride: int
    decide: Callable[[Scene, Scene], Opening | None] = lambda before, scene: "new" if scene.cut else None
    known: int = 0
    before: int = 0
    ends: bool = False

    def windows(self, begins: int = 0) -> Iterator[Planned]:
        """Every window from the shot that begins at an output frame, each knowing whether it is the last of its take."""
        waiting: Planned | None = None
        for planned in self._windows(begins):
            if waiting is not None:
                yield replace(waiting, last=planned.window.cut is not None)
            waiting = planned
        if waiting is not None:
            yield replace(waiting, last=True)

    def _windows(self, begins: int) -> Iterator[Planned]:
        for opening, first, end in self._shots(begins):
            yield from self._shot(opening, first, end)

    def _shot(self, opening: Opening | None, first: int, end: int | None) -> Iterator[Planned]:
        frames, known = None if end is None else end - first, 0 if opening == "new" else 1
        if opening is None:
            known, frames = self.known, None if frames is None else frames + self.before
        guides = 1 if self.ends and end == self.script.frames else 0
        alone = opening is None and end == self.script.frames
        if frames is not None and frames <= frames_of_latents(known, self.stride) and not alone:
            windows = iter([self._given(known)])
        else:
            windows = self.plan.windows(frames, self.stride, self.limits, known, guides)
        for i, window in enumerate(windows):
            opens = opening if i == 0 else None
            if opens == "resample":
                yield Planned(replace(self._light(), cut=Cut(0)), first, end, opens, light=True)
                opens = None
            yield Planned(replace(window, cut=Cut(0)) if opens else window, first, end, opens)

    def check(self, begins: int, until: int) -> None:
        """PlanError if a shot cannot be made, from the one that begins at `begins` to those that begin up to `until`."""
        for opening, first, end in takewhile(lambda shot: shot[1] <= until, self._shots(begins)):
            for planned in islice(self._shot(opening, first, end), 2):
                check(planned.window, self.limits)

    def _shots(self, begins: int) -> Iterator[tuple[Opening | None, int, int | None]]:
        """How each shot opens, its first output frame and the one after its last."""
        scenes, starts = self.script.scenes, self.script.starts
        now = starts.index(begins)
        opening, first = self.decide(scenes[now - 1], scenes[now]) if now else None, begins
        for i in range(now + 1, len(scenes)):
            opens = self.decide(scenes[i - 1], scenes[i])
            if opens is not None:
                yield opening, first, starts[i]
                opening, first = opens, starts[i]
        yield opening, first, self.script.frames

    def _given(self, known: int) -> Window:
        """A shot that is shown as it was given: there is nothing to make."""
        role: Role = "make" if self.limits.context == "beside" else "context"
        return Window(range(known), torch.zeros(2, known, dtype=torch.float64), role=[role] * known)

    def _light(self) -> Window:
        """The anchor alone, from a light noise to clean."""
        levels = ladder(self.plan)
        below = levels[levels < LIGHT]
        return Window((0,), torch.cat([torch.tensor([LIGHT], dtype=levels.dtype), below])[:, None])


class Schedule:
    """The windows of a video by number; nothing is kept but the next two.

    shot: the number of the first window, and the first output frame, of the shot of the last window before those.
    """

    def __init__(self, shots: Shots, shot: tuple[int, int] = (0, 0)):
        self.shots, self.shot = shots, shot
        self._first, self._rest = shot[0], shots.windows(shot[1])
        self._next: deque[Planned] = deque()

    def at(self, index: int) -> tuple[Planned | None, Planned | None]:
        """Window `index` and the one after it; None behind the end."""
        while self._first < index and self._fill(1):
            done = self._next.popleft()
            if done.opening:
                self.shot = self._first, done.first
            self._first += 1
        self._fill(2)
        now, after = [*self._next, None, None][:2] if self._first == index else (None, None)
        return now, after

    def _fill(self, count: int) -> bool:
        self._next.extend(islice(self._rest, max(0, count - len(self._next))))
        return len(self._next) >= count

    def changed(self, script: Script, index: int) -> Schedule:
        """The schedule of another script, of whose windows `index` have begun; those of earlier shots are the same.

        PlanError if those would be others, or no window is left that could show what changed.
        """
        self.at(index)
        number, first = self.shot
        shots = replace(self.shots, script=script)
        old, new = (islice(each.windows(first), index - number) for each in (self.shots, shots))
        missing = object()
        for was in old:
            now = next(new, missing)
            if not isinstance(now, Planned) or not _same(was, now):
                raise PlanError("windows that have begun would have to be others")
        later = Schedule(shots, self.shot)
        if later.at(index)[0] is None:
            raise PlanError("the last window has begun")
        return later


def _same(was: Planned, now: Planned) -> bool:
    """Whether a window that has begun may stand in another script: a take may end where it went on, but not go on again."""
    a, b = was.window, now.window
    told = (a.frames, a.cut, a.role, a.hold, was.opening, was.light) == (
        b.frames,
        b.cut,
        b.role,
        b.hold,
        now.opening,
        now.light,
    )
    return told and torch.equal(a.levels, b.levels) and (now.last or not was.last)
