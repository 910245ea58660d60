"""The timeline of a video that is being generated: the next window, the edits of the script, the changes of scene."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.geometry import frames_of_latents
from longtake.planning.scene_changes import SceneChanged, Transition, scenes_of
from longtake.planning.script import Scene, Script, ScriptError
from longtake.planning.script_edits import Edit, edited, resolved, too_late
from longtake.planning.shots import ShotPlanner, TimelineWindow, WindowQueue
from longtake.planning.window import check


class Timeline:
    """The windows of a script that may be edited behind what has begun.

    index: number of the next window. next_editable_frame: the first output frame of which no window has begun.
    scene: the one that the newest frame follows. pending_edits: edits to repeat, by the window before which each was made.
    """

    def __init__(self, planner: ShotPlanner, fps: float):
        self.fps = fps
        self.queue = WindowQueue(planner)
        self.index = 0
        given = frames_of_latents(planner.given_latents, planner.temporal_compression)
        self.next_editable_frame = max(0, given - planner.start_offset)
        self.scene: Scene | None = None
        self.pending_edits: dict[int, list[Edit]] = {}

    @property
    def planner(self) -> ShotPlanner:
        """The planner of the script as it is now."""
        return self.queue.planner

    @property
    def script(self) -> Script:
        """The script as it is now, after all edits."""
        return self.planner.script

    # ------------------------------------------------------------ windows
    def next(self) -> TimelineWindow | None:
        """Return the next window; None behind the end. Raise PlanError if the model cannot run it or the one after it."""
        for edit in self.pending_edits.pop(self.index, []):
            self.edit(edit)
        now, after = self.queue.at(self.index)
        for planned in (now, after):
            if planned is not None:
                check(planned.window, self.planner.limits)
        return None if now is None else replace(now, index=self.index)

    def begin(self, next_editable_frame: int) -> None:
        """Note that the next window has begun, so that edits only reach the output frames from this one on."""
        self.next_editable_frame = next_editable_frame

    def done(self) -> None:
        """Move on to the window after the one that is done."""
        self.index += 1

    # ------------------------------------------------------------ scenes
    def scene_changes(self, now: TimelineWindow, frames: Sequence[int]) -> Iterator[SceneChanged]:
        """Yield the scenes that a window follows and no window before it. frames: the output frames new in the window."""
        for frame, scene in scenes_of(now.window, self.script, frames):
            before, self.scene = self.scene, scene
            if before is None or (scene == before and not now.shot_start):
                continue
            kind: Transition = "cut" if now.shot_start == "new" else now.shot_start or "keep"
            yield SceneChanged(now.index, frame, scene.prompt, kind, self.planner.distance(before.prompt, scene.prompt))

    # ------------------------------------------------------------ edits
    def follow(self, edits: Mapping[int, Sequence[Edit]]) -> None:
        """Repeat edits that were made before, each right before the window that it was made before. Call before `load`."""
        self.pending_edits = {window: list(some) for window, some in edits.items()}

    def edit(self, edit: Edit) -> Edit:
        """Change the script behind what has begun; return the edit with its place and length filled in.

        Only between windows. TooLate names the earliest frame that can still change; ScriptError says what else is wrong.
        """
        try:
            return self._edit(edit, self.next_editable_frame)
        except PlanError:
            earliest = self._earliest(edit)
        if edit.at is not None and edit.op != "add":
            raise too_late(edit.at, earliest, self.fps)
        return self._edit(edit, earliest)

    def _edit(self, edit: Edit, earliest: int | None) -> Edit:
        done = resolved(self.script, edit, earliest, self.fps)
        script = edited(self.script, done, self.fps)
        try:
            planner = replace(self.planner, script=script)
            planner.check(self.queue.shot[1], until=(done.at or 0) + (done.frames or 0))
        except PlanError as error:
            raise ScriptError(f"this edit cannot be generated: {error}") from error
        self.queue = self.queue.changed(script, self.index)
        return done

    def _earliest(self, edit: Edit) -> int | None:
        """Find the first frame from which an edit changes no window that has begun; None if there is none."""
        if edit.op == "add":
            return None
        for step in range(self.planner.limits.max_latent_frames + 1):
            at = self.next_editable_frame + step * self.planner.temporal_compression
            try:
                done = resolved(self.script, replace(edit, at=at), at, self.fps)
                self.queue.changed(edited(self.script, done, self.fps), self.index)
            except ValueError:
                continue
            return at
        return None

    # ------------------------------------------------------------ state
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything but the script, which follows from the edits."""
        scene = None if self.scene is None else asdict(self.scene)
        facts = {"index": self.index, "next_editable_frame": self.next_editable_frame, "scene": scene}
        return {}, {**facts, "shot": list(self.queue.shot)}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Continue from `state`; the edits before it are those of `follow`."""
        self.index, self.next_editable_frame = facts["index"], facts["next_editable_frame"]
        self.scene = None if facts["scene"] is None else Scene(**facts["scene"])
        script = self.script
        for window in sorted(number for number in self.pending_edits if number < self.index):
            for change in self.pending_edits.pop(window):
                script = edited(script, change, self.fps)
        number, first = facts["shot"]
        self.queue = WindowQueue(replace(self.planner, script=script), (number, first))
