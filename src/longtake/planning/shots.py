"""The windows of a video: the strategy plans every shot of the script, and a queue joins the plans."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Literal, get_args

import torch

from longtake.core.errors import PlanError
from longtake.core.geometry import frames_of_latents, latents_of_frames
from longtake.core.sigmas import sigmas_of
from longtake.planning.limits import Limits
from longtake.planning.script import Scene, Script
from longtake.planning.window import Cut, Plan, Role, Window, check

ShotStart = Literal["new", "anchor", "resample"]
RESAMPLE_SIGMA = 0.4  # sigma from which an anchor is re-sampled: the content stays, the style follows the new prompt


@dataclass(frozen=True)
class TimelineWindow:
    """A window with its place in the video.

    first, end: output frames at which its shot begins and ends (None: endless). index: its number in the video.
    shot_start: how its shot starts, on the first window of every shot but the first: from nothing ("new"), with the
    anchor of the shot before ("anchor"), or with that anchor re-sampled ("resample").
    resamples_anchor: the window denoises the anchor alone, from RESAMPLE_SIGMA.
    ends_clip: no later window belongs to its clip. next_cut: the cut of the window after it, if that has one.
    """

    window: Window
    first: int
    end: int | None
    shot_start: ShotStart | None = None
    resamples_anchor: bool = False
    ends_clip: bool = False
    next_cut: Cut | None = None
    index: int = 0

    @property
    def withheld(self) -> int:
        """Output frames at the end of the clip that are shown only when the next clip has generated them again."""
        return 0 if self.next_cut is None or self.next_cut.overlap_source == "old" else self.next_cut.overlap


def never_apart(a: str, b: str) -> float:
    """Measure no distance between two prompts."""
    return 0.0


@dataclass(frozen=True)
class ShotPlanner:
    """Everything that decides the windows of a video.

    distance: of two prompts, from 0 to 2, compared with `script.abrupt`. given_latents: latents at the start of the video
    that are given as input. start_offset: output frames of them that precede the script, since a viewer has seen them.
    has_end_frame: the last frame of the video is given. strategy: name of the plan's strategy, for messages.
    """

    script: Script
    plan: Plan
    limits: Limits
    temporal_compression: int
    distance: Callable[[str, str], float] = never_apart
    given_latents: int = 0
    start_offset: int = 0
    has_end_frame: bool = False
    strategy: str = ""

    def windows(self, begins: int = 0) -> Iterator[TimelineWindow]:
        """Yield every window from the shot that begins at an output frame, with the cut that follows it."""
        waiting: TimelineWindow | None = None
        for planned in self._windows(begins):
            if waiting is not None:
                cut = planned.window.cut
                yield replace(waiting, ends_clip=cut is not None, next_cut=cut)
            waiting = planned
        if waiting is not None:
            yield replace(waiting, ends_clip=True)

    def check(self, begins: int, until: int) -> None:
        """Raise PlanError if a shot cannot be generated, of those that begin from frame `begins` to frame `until`."""
        for start, first, end in takewhile(lambda shot: shot[1] <= until, self._shots(begins)):
            for planned in islice(self._shot(start, first, end), 2):
                check(planned.window, self.limits)

    def shot_start(self, before: Scene, scene: Scene) -> ShotStart | None:
        """Decide how a scene starts a shot (None: it continues the shot): as the scene says, or by prompt distance."""
        if scene.cut is True:
            return "new"
        if scene.cut in get_args(ShotStart):
            return scene.cut  # type: ignore[return-value]
        if self.script.abrupt is None or scene.prompt == before.prompt:
            return None
        return "resample" if self.distance(before.prompt, scene.prompt) > self.script.abrupt else None

    def _windows(self, begins: int) -> Iterator[TimelineWindow]:
        for start, first, end in self._shots(begins):
            yield from self._shot(start, first, end)

    def _shots(self, begins: int) -> Iterator[tuple[ShotStart | None, int, int | None]]:
        """Yield how each shot starts, its first output frame and the one after its last."""
        scenes, starts = self.script.scenes, self.script.starts
        now = starts.index(begins)
        start, first = self.shot_start(scenes[now - 1], scenes[now]) if now else None, begins
        for i in range(now + 1, len(scenes)):
            following = self.shot_start(scenes[i - 1], scenes[i])
            if following is not None:
                yield start, first, starts[i]
                start, first = following, starts[i]
        yield start, first, self.script.frames

    def _shot(self, start: ShotStart | None, first: int, end: int | None) -> Iterator[TimelineWindow]:
        frames, given = None if end is None else end - first, 0 if start == "new" else 1
        if start is None:
            given, frames = self.given_latents, None if frames is None else frames + self.start_offset
        end_frames = 1 if self.has_end_frame and end == self.script.frames else 0
        whole_video = start is None and end == self.script.frames
        if frames is not None and frames <= frames_of_latents(given, self.temporal_compression) and not whole_video:
            windows = iter([self._given_window(given)])
        else:
            plan = self.plan.windows(frames, self.temporal_compression, self.limits, given, end_frames)
            windows = of_length(plan, frames, self.temporal_compression, self.strategy)
        for i, window in enumerate(windows):
            starts = start if i == 0 else None
            if starts == "resample":
                yield TimelineWindow(replace(self._resample_window(), cut=Cut(0)), first, end, starts, True)
                starts = None
            yield TimelineWindow(replace(window, cut=Cut(0)) if starts else window, first, end, starts)

    def _given_window(self, given: int) -> Window:
        """Return the window of a shot no longer than the latents given to it: nothing is generated."""
        role: Role = "generate" if self.limits.conditioning == "concat" else "context"
        return Window(range(given), torch.zeros(2, given, dtype=torch.float64), role=[role] * given)

    def _resample_window(self) -> Window:
        """Return the window of the anchor alone, from RESAMPLE_SIGMA to 0."""
        sigmas = sigmas_of(self.plan.schedule)
        below = sigmas[sigmas < RESAMPLE_SIGMA]
        return Window((0,), torch.cat([torch.tensor([RESAMPLE_SIGMA], dtype=sigmas.dtype), below])[:, None])


def of_length(
    windows: Iterable[Window], num_frames: int | None, temporal_compression: int, strategy: str = ""
) -> Iterator[Window]:
    """Pass on the windows of a plan for num_frames output frames (None: without end).

    strategy: its name, for the message. Raise PlanError before a window that begins when every frame is finished, and behind
    the last window if it leaves frames unfinished, which a reader that looks ahead meets before it generates that window.
    """
    name = f"the strategy {strategy!r}" if strategy else "the strategy"
    first = clean = last = 0  # the frame at which the clip starts; its latents that are clean, and all of them
    done = False
    for number, window in enumerate(windows):
        if window.cut:
            first, clean = first + frames_of_latents(last, temporal_compression) - window.cut.overlap, 0
        if done:
            raise PlanError(
                f"{name} plans window {number} (from 0) behind the end of a video of {num_frames} frames: its plan must end "
                "with the window that finishes the last frame"
            )
        yield window
        shown = [i for i, role in enumerate(window.role) if role != "keyframe"]
        if not shown:
            continue
        last = 1 + window.frames[shown[-1]]
        clean = max([clean, *(1 + window.frames[i] for i in shown if window.sigmas[-1, i] == 0)])
        done = num_frames is not None and clean >= latents_of_frames(num_frames - first, temporal_compression)
    if not done:
        have = first + frames_of_latents(clean, temporal_compression)
        wanted = "a video without end" if num_frames is None else f"a video of {num_frames} frames"
        raise PlanError(
            f"{name} ends its plan after {have} frames of {wanted}: choose another strategy, or correct its plan"
        )


class WindowQueue:
    """The windows of a video by number, of which only the next two are kept.

    shot: the number of the first window and the first output frame of the newest shot that has begun.
    """

    def __init__(self, planner: ShotPlanner, shot: tuple[int, int] = (0, 0)):
        self.planner, self.shot = planner, shot
        self._number, self._rest = shot[0], planner.windows(shot[1])
        self._next: deque[TimelineWindow] = deque()

    def at(self, index: int) -> tuple[TimelineWindow | None, TimelineWindow | None]:
        """Return window `index` and the one after it, which are None behind the end. The index may only grow."""
        while self._number < index and self._fill(1):
            done = self._next.popleft()
            if done.shot_start:
                self.shot = self._number, done.first
            self._number += 1
        self._fill(2)
        now, after = [*self._next, None, None][:2] if self._number == index else (None, None)
        return now, after

    def changed(self, script: Script, index: int) -> WindowQueue:
        """Return the queue of an edited script of which `index` windows have begun.

        Raise PlanError if the edit would change a window that has begun, or if no window is left that could show it.
        """
        self.at(index)
        number, first = self.shot
        planner = replace(self.planner, script=script)
        old, new = (islice(each.windows(first), index - number) for each in (self.planner, planner))
        missing = object()
        for was in old:
            now = next(new, missing)
            if not isinstance(now, TimelineWindow) or not _may_replace(was, now):
                raise PlanError("this edit would change windows that are already generated")
        later = WindowQueue(planner, self.shot)
        if later.at(index)[0] is None:
            raise PlanError("the last window of the video has begun")
        return later

    def _fill(self, count: int) -> bool:
        self._next.extend(islice(self._rest, max(0, count - len(self._next))))
        return len(self._next) >= count


def _may_replace(was: TimelineWindow, now: TimelineWindow) -> bool:
    """Return whether an edit may turn a window that has begun into `now`: its clip may end there, but not continue."""
    a, b = was.window, now.window
    same = (a.frames, a.cut, a.role, a.revisable) == (b.frames, b.cut, b.role, b.revisable)
    same &= (was.shot_start, was.resamples_anchor) == (now.shot_start, now.resamples_anchor)
    return same and torch.equal(a.sigmas, b.sigmas) and (now.ends_clip or not was.ends_clip)
