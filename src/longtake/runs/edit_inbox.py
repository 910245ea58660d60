"""Edits of the script on the side of the process that generates the video: it decides requests between windows."""

from __future__ import annotations

from typing import Any

from longtake.engine.events import Event as EngineEvent
from longtake.engine.events import StepDone, WindowDone
from longtake.engine.rollout import Rollout
from longtake.planning.scene_changes import SceneChanged
from longtake.planning.script_edits import Edit
from longtake.runs.files import journal
from longtake.runs.files.edit_files import accepted_edits, decisions, parse_request, write_horizon
from longtake.runs.files.errors import explained
from longtake.runs.files.journal import EDIT, SCENE, Journal, Line
from longtake.runs.files.layout import Layout


class EditInbox:
    """Reads requests from edits.jsonl and writes decisions and scene changes to the journal.

    recorded: output frames that are durable already; a resume generates them again before it accepts further edits.
    """

    def __init__(self, layout: Layout, open_journal: Journal, recorded: int):
        self.layout, self.journal, self.recorded = layout, open_journal, recorded
        self._offset = 0  # bytes of edits.jsonl that were read
        self._waiting: list[Line] = []
        self._decided = {line["id"] for line in decisions(layout)}
        scenes = journal.lines_of_kind(layout.journal, SCENE)
        self._last_scene = max((line["frame"] for line in scenes), default=-1)
        self._horizon = -1

    def on_event(self, rollout: Any, event: EngineEvent) -> None:
        """Write scene changes down and, between windows, decide the requests."""
        with explained(self.layout.folder, "recording edits of the script"):
            inner, before = without_extension(rollout)
            if isinstance(event, SceneChanged) and event.frame > self._last_scene:
                self._record_scene(event)
            elif isinstance(event, StepDone) and event.step == 1:
                self._update_horizon(inner.timeline.next_editable_frame + before)
            elif isinstance(event, WindowDone):
                self._decide(rollout)

    def decide(self, rollout: Any) -> None:
        """Decide the requests that were made so far; frames that are durable are first generated again without them."""
        with explained(self.layout.folder, "recording edits of the script"):
            self._decide(rollout)

    def _record_scene(self, event: SceneChanged) -> None:
        self._last_scene = event.frame
        facts = {"frame": event.frame, "window": event.index, "did": event.transition}
        self.journal.append(SCENE, {**facts, "distance": round(event.distance, 6), "prompt": event.prompt})

    def _decide(self, rollout: Any) -> None:
        inner, before = without_extension(rollout)
        self._waiting += self._new_requests()
        if (
            not self._waiting
            or inner.timeline.next_editable_frame + before < self.recorded
            or inner.timeline.pending_edits
        ):
            return
        for line in self._waiting:
            facts: Line = {"id": line["id"], "window": inner.timeline.index}
            try:
                facts |= inner.timeline.edit(Edit.from_facts(line)).facts()
            except ValueError as error:
                facts["refused"] = str(error)
            self.journal.append(EDIT, facts)
            self._decided.add(line["id"])
        self._waiting = []

    def _new_requests(self) -> list[Line]:
        """The complete lines that were appended to edits.jsonl since the last call."""
        path = self.layout.edit_requests
        if not path.exists() or path.stat().st_size <= self._offset:
            return []
        found = []
        with open(path, "rb") as file:
            file.seek(self._offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # incomplete, or still being written
                self._offset += len(raw)
                line = parse_request(raw)
                if line and line["id"] not in self._decided:
                    found.append(line)
        return found

    def _update_horizon(self, frame: int) -> None:
        if frame != self._horizon:
            self._horizon = frame
            write_horizon(self.layout, frame)


def without_extension(rollout: Any) -> tuple[Rollout, int]:
    """Return the rollout itself, and the number of frames of an extended video that come before it."""
    inner = getattr(rollout, "rollout", None)
    return (rollout, 0) if inner is None else (inner, rollout.before)


def follow_accepted_edits(layout: Layout, rollout: Any) -> None:
    """Give a new rollout the edits that the run accepted; call it before the rollout loads a snapshot."""
    accepted: dict[int, list[Edit]] = {}
    for window, edit in accepted_edits(layout):
        accepted.setdefault(window, []).append(edit)
    without_extension(rollout)[0].timeline.follow(accepted)
