"""The script of a video in the making: which window comes next, what an edit may still change, how scenes begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor

from longtake.plan import PlanError
from longtake.prompts import Edit, TooLate, edited, resolved
from longtake.schedule import Opening, Planned, Schedule, Shots
from longtake.script import Scene, Script, ScriptError

Did = Literal["keep", "cut", "anchor", "resample"]


@dataclass(frozen=True)
class Switched:
    """From output frame `frame` on, window `index` follows another scene.

    did: how the video goes over to it: it goes on ("keep"), begins a new shot ("cut"), begins again with the anchor
    ("anchor"), or with the anchor lightly re-sampled ("resample"). distance: of the two prompts, 1 - cosine.
    """

    index: int
    frame: int
    prompt: str
    did: Did
    distance: float


@dataclass(frozen=True)
class Edge:
    """What has begun. window: the next one; begun: the first output frame of which no window has begun, which an edit can
    still change; stride, view: of the model."""

    window: int
    begun: int
    stride: int
    view: int


class Live:
    """A script that may change behind what has begun. embed(prompt) -> token embeddings (L, D)."""

    def __init__(self, shots: Shots, fps: float, embed: Callable[[str], Tensor]):
        self.fps, self.embed = fps, embed
        self.scene: Scene | None = None  # that the newest frame so far follows
        self.changes: dict[int, list[Edit]] = {}  # edits to come, by the window before which they were taken
        self.distances: dict[tuple[str, str], float] = {}  # of two prompts that follow each other
        self.schedule = Schedule(replace(shots, decide=self._opening))

    @property
    def script(self) -> Script:
        """As it is now."""
        return self.schedule.shots.script

    # ------------------------------------------------------------ edits
    def follow(self, changes: Mapping[int, Sequence[Edit]]) -> None:
        """Make these edits, which were made before, each right before the window that it was taken before."""
        self.changes = {window: list(edits) for window, edits in changes.items()}

    def edit(self, edit: Edit, edge: Edge) -> Edit:
        """Change the script behind what has begun; the edit with its place and length filled in.

        TooLate names the earliest frame that can still change; ScriptError says what else is wrong.
        """
        try:
            return self._edit(edit, edge.begun, edge.window)
        except PlanError:
            earliest = self._earliest(edit, edge)
        if edit.at is not None and edit.op != "add":
            raise self._too_late(edit.at, earliest)
        return self._edit(edit, earliest, edge.window)

    def _edit(self, edit: Edit, earliest: int | None, window: int) -> Edit:
        done = resolved(self.script, edit, earliest, self.fps)
        script = edited(self.script, done, self.fps)
        try:
            shots = replace(self.schedule.shots, script=script)
            shots.check(self.schedule.shot[1], until=(done.at or 0) + (done.frames or 0))
        except PlanError as error:
            raise ScriptError(f"this cannot be made: {error}") from error
        self.schedule = self.schedule.changed(script, window)
        return done

    def _earliest(self, edit: Edit, edge: Edge) -> int | None:
        """The first frame from which an edit leaves the windows that have begun as they are; None if there is none."""
        if edit.op == "add":
            return None
        for step in range(edge.view + 1):
            at = edge.begun + step * edge.stride
            try:
                done = resolved(self.script, replace(edit, at=at), at, self.fps)
                self.schedule.changed(edited(self.script, done, self.fps), edge.window)
            except ValueError:
                continue
            return at
        return None

    def _too_late(self, at: int, earliest: int | None) -> TooLate:
        if earliest is None:
            return TooLate("the last clip has begun: this can no longer change", None)
        return TooLate(
            f"{at / self.fps:.2f} s is being made now: the earliest time for this change is {earliest / self.fps:.2f} s "
            "(leave --at out to use it)",
            earliest,
        )

    # ------------------------------------------------------------ windows and scenes
    def next(self, edge: Callable[[], Edge], index: int) -> tuple[Planned | None, Planned | None]:
        """Window `index` and the one after it."""
        for change in self.changes.pop(index, []):
            self.edit(change, edge())
        return self.schedule.at(index)

    def switched(self, index: int, now: Planned, frames: Sequence[int]) -> Iterator[Switched]:
        """Say which scenes a window takes up that no window followed before. frames: the output frames where it is new."""
        for frame, scene in self._followed(now, frames):
            before, self.scene = self.scene, scene
            if before is None or (scene == before and not now.opening):
                continue
            did: Did = "keep" if now.opening is None else "cut" if now.opening == "new" else now.opening
            yield Switched(index, frame, scene.prompt, did, self.distance(before.prompt, scene.prompt))

    def _followed(self, now: Planned, frames: Sequence[int]) -> list[tuple[int, Scene]]:
        """The frames at which a window takes up a scene, and that scene."""
        scenes = [(frame, self.script.at(frame)) for frame in frames]
        if now.window.text == "window":
            return scenes[:1]
        return [row for i, row in enumerate(scenes) if i == 0 or row[1] != scenes[i - 1][1]]

    def _opening(self, before: Scene, scene: Scene) -> Opening | None:
        """How a scene begins: as it says, or by the distance of its prompt from the one before."""
        if scene.cut is True:
            return "new"
        if scene.cut in get_args(Opening):
            return scene.cut  # type: ignore[return-value]
        if self.script.abrupt is None or scene.prompt == before.prompt:
            return None
        return "resample" if self.distance(before.prompt, scene.prompt) > self.script.abrupt else None

    def distance(self, a: str, b: str) -> float:
        """1 - cosine of the summed token embeddings of two prompts; 0 where the model does not read."""
        if (a, b) not in self.distances:
            one, two = (self.embed(prompt).double().sum(0).cpu() for prompt in (a, b))
            size = float(one.norm() * two.norm())
            self.distances[a, b] = 1 - float(one @ two) / size if size else 0.0
        return self.distances[a, b]

    # ------------------------------------------------------------ snapshots
    def state(self) -> dict[str, Any]:
        """Json-able; the script follows from the edits."""
        return {"scene": None if self.scene is None else asdict(self.scene), "shot": list(self.schedule.shot)}

    def load(self, facts: Mapping[str, Any], index: int) -> None:
        """Undo `state` after `index` windows; the edits before them are those of `follow`."""
        self.scene = Scene(**facts["scene"]) if facts.get("scene") else None
        script = self.script
        for window in sorted(number for number in self.changes if number < index):
            for change in self.changes.pop(window):
                script = edited(script, change, self.fps)
        number, first = facts.get("shot", (0, 0))
        self.schedule = Schedule(replace(self.schedule.shots, script=script), (number, first))
