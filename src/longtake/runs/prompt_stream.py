"""Edits of the script on the side of the user: list the scenes of a run, and request changes of what is not generated yet."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from longtake.core.errors import ScriptError
from longtake.core.options import check_value
from longtake.planning.script import Script
from longtake.planning.script_edits import Edit, Op, TooLate
from longtake.runs.files import journal
from longtake.runs.files import manifest as manifests
from longtake.runs.files.edit_files import (
    LONGEST_LINE,
    append_request,
    decisions,
    edited_manifest,
    new_request,
    pending_requests,
    read_horizon,
)
from longtake.runs.files.errors import RunError, explained
from longtake.runs.files.folder import existing_layout
from longtake.runs.files.input_files import frames_before
from longtake.runs.files.journal import SCENE, Line
from longtake.runs.files.layout import is_locked

POLL = 0.05  # seconds between two looks into the journal while a request waits for its decision


@dataclass(frozen=True)
class SceneRow:
    """A scene of the script. start, end: in seconds (end is None for an endless scene).

    state: "generated", "in progress" or "planned". did: transition to the scene: keep, cut, anchor or resample.
    distance: of its prompt from the one before, 1 - cosine similarity; None while it is not known.
    """

    start: float
    end: float | None
    prompt: str
    state: str
    did: str = ""
    distance: float | None = None


@dataclass(frozen=True)
class EditAnswer:
    """The decision about an edit: accepted from `seconds` on (by window `window`), or still waiting for a window."""

    id: str
    accepted: bool
    seconds: float | None = None
    window: int | None = None


class PromptStream:
    """The scenes of a run that is in progress, or stopped. Raises RunError if the folder is not a run directory."""

    def __init__(self, folder: Path | str):
        self.layout = existing_layout(Path(folder))
        self.manifest = manifests.load(self.layout.manifest)
        self.fps = float(self.manifest.fps)
        self.before = frames_before(self.manifest)

    def scenes(self) -> list[SceneRow]:
        """Return every scene with its state. Raises RunError if the run records no script."""
        if not isinstance(self.manifest.settings.get("script"), dict):
            raise RunError(f"{self.layout.folder} records no script, so it has no prompts to list or to edit")
        script = Script.from_facts(edited_manifest(self.layout, self.manifest).settings["script"])
        changes = {line["frame"]: line for line in journal.lines_of_kind(self.layout.journal, SCENE)}
        durable, begun = self.durable_frames, self.earliest
        ends = [*script.starts[1:], script.frames]
        found = []
        for start, end, scene in zip(script.starts, ends, script.scenes):
            change = next((line for at, line in changes.items() if start <= at - self.before < (end or at + 1)), {})
            state = "generated" if end is not None and end + self.before <= durable else "planned"
            if state == "planned" and start + self.before < begun:
                state = "in progress"
            did = change.get("did", "") or ("cut" if scene.cut is True else scene.cut or "")
            seconds = None if end is None else self._seconds(end)
            found.append(SceneRow(self._seconds(start), seconds, scene.prompt, state, did, change.get("distance")))
        return found

    def add(
        self, prompt: str, *, seconds: float | None = None, cut: bool | str | None = None, wait: float = 2.0
    ) -> EditAnswer:
        """Request a scene behind the last one, which makes the video longer. wait: seconds to wait for the decision."""
        return self._request("add", prompt, None, seconds, cut, wait)

    def insert(
        self, prompt: str, *, at: float | None = None, seconds: float | None = None, cut: bool | str | None = None,
        wait: float = 2.0,
    ) -> EditAnswer:  # fmt: skip
        """Request a scene from second `at` on (None: as early as possible); later scenes move back."""
        return self._request("insert", prompt, at, seconds, cut, wait)

    def replace(
        self, prompt: str, *, at: float | None = None, cut: bool | str | None = None, wait: float = 2.0
    ) -> EditAnswer:
        """Request another prompt from second `at` (None: as early as possible) to the end of the scene there."""
        return self._request("replace", prompt, at, None, cut, wait)

    def pending(self) -> list[Edit]:
        """Return the edits that were requested and are not decided yet."""
        return [Edit.from_facts(line) for line in pending_requests(self.layout)]

    @property
    def durable_frames(self) -> int:
        """The number of output frames in durable segments."""
        return max((entry.first + entry.frames for entry in journal.segments(self.layout.journal)), default=0)

    @property
    def earliest(self) -> int:
        """The first output frame that an edit can still change, as far as the files in the run directory say."""
        return max(read_horizon(self.layout), self.durable_frames, self.before)

    def _request(
        self, op: Op, prompt: str, at: float | None, seconds: float | None, cut: bool | str | None, wait: float
    ) -> EditAnswer:
        if journal.done_line(self.layout.journal):
            raise RunError(f"{self.layout.folder} is complete: make a new video that extends it with `longtake extend`")
        if not isinstance(prompt, str):
            raise ScriptError(f"the prompt of a scene is a text in quotes, not {prompt!r}")
        for name, number in (("seconds", seconds), ("at", at)):
            check_value(name, number, "float | None", ScriptError)
        if seconds is not None and not 0 < seconds < float("inf"):
            raise ScriptError(f"--seconds must be a positive number, not {seconds}")
        frame = None if at is None else round(at * self.fps)
        if frame is not None and frame < self.earliest:
            raise TooLate(
                f"{at:g} s is generated already, or in progress: the earliest time that can still change is "
                f"{self.earliest / self.fps:.2f} s (leave --at out to use it)",
                self.earliest,
            )
        frames = None if seconds is None else max(1, round(seconds * self.fps))
        return self._send(Edit(op, prompt, None if frame is None else frame - self.before, frames, cut), wait)

    def _send(self, edit: Edit, wait: float) -> EditAnswer:
        number, raw = new_request(edit)
        if len(raw) > LONGEST_LINE:
            raise ScriptError("the prompt is longer than any model reads: shorten it")
        with explained(self.layout.folder, "requesting an edit"):
            append_request(self.layout.edit_requests, raw)
        until = time.monotonic() + wait
        while True:
            for found in decisions(self.layout):
                if found["id"] == number:
                    return self._answer(found)
            over = journal.done_line(self.layout.journal) is not None or not is_locked(self.layout)
            if over or time.monotonic() >= until:
                return EditAnswer(number, False)
            time.sleep(POLL)

    def _answer(self, line: Line) -> EditAnswer:
        if "refused" in line:
            raise ScriptError(line["refused"])
        return EditAnswer(line["id"], True, self._seconds(line["at"]), line["window"])

    def _seconds(self, frame: int) -> float:
        return (frame + self.before) / self.fps
