"""The prompt stream of a reel: what is asked for while it is made, and what became of it.

`edits.jsonl` holds what was asked, a line each, appended under a lock and durable. The process that makes the video reads
it before every window; what it decides is in the journal, durable before that window begins, so that a resumed run makes
the same video. `edge.json` says how far it is, for those who ask.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longtake.engine import Rollout
from longtake.events import Called, Ended
from longtake.events import Event as EngineEvent
from longtake.live import Switched
from longtake.prompts import Edit, Op, TooLate, edited
from longtake.reel import disk, journal
from longtake.reel import manifest as manifests
from longtake.reel.disk import ReelError
from longtake.reel.journal import Journal, Line
from longtake.reel.layout import Layout, existing
from longtake.reel.manifest import Manifest
from longtake.script import Script, ScriptError

EDIT, SWITCH = "edit", "switch"  # lines of the journal
MOST = 1 << 16  # bytes of a line of edits.jsonl; anything longer is no edit


def inbox(layout: Layout) -> Path:
    """What was asked."""
    return layout.folder / "edits.jsonl"


def edge(layout: Layout) -> Path:
    """How far the video is."""
    return layout.folder / "edge.json"


# ---------------------------------------------------------------- while it is made
class Inbox:
    """The side of the process that makes the video. recorded: output frames that are durable and stay as they are."""

    def __init__(self, layout: Layout, book: Journal, recorded: int):
        self.layout, self.journal, self.recorded = layout, book, recorded
        self.offset = 0  # bytes of edits.jsonl that were read
        self.waiting: list[Line] = []
        self.decided = {line.get("id") for line in journal.notes(layout.journal, EDIT)}
        self.switch = max((line["frame"] for line in journal.notes(layout.journal, SWITCH)), default=-1)
        self.marked = -1

    def saw(self, rollout: Any, event: EngineEvent) -> None:
        """Write down a switch; between windows, decide what was asked."""
        with disk.explained(self.layout.folder, "keeping the prompt stream"):
            self._saw(rollout, event)

    def _saw(self, rollout: Any, event: EngineEvent) -> None:
        inner, before = unwrapped(rollout)
        if isinstance(event, Switched) and event.frame > self.switch:
            self.switch = event.frame
            facts = {"frame": event.frame, "window": event.index, "did": event.did}
            self.journal.append(SWITCH, {**facts, "distance": round(event.distance, 6), "prompt": event.prompt})
        elif isinstance(event, Called) and event.call == 1:
            self._mark(inner.reached, before)
        elif isinstance(event, Ended):
            self._take(rollout)

    def take(self, rollout: Any) -> None:
        """Make the edits that were asked for since; what is durable already is first made again, without them."""
        with disk.explained(self.layout.folder, "keeping the prompt stream"):
            self._take(rollout)

    def _take(self, rollout: Any) -> None:
        inner, before = unwrapped(rollout)
        self.waiting += self._asked()
        if not self.waiting or inner.edge.begun + before < self.recorded or inner.live.changes:
            return
        for line in self.waiting:
            facts = {"id": line["id"], "window": inner.index}
            try:
                done = inner.edit(Edit.from_facts(line))
            except ValueError as error:
                facts["refused"] = str(error)
                done = None
            self.journal.append(EDIT, facts if done is None else {**facts, **done.facts()})
            self.decided.add(line["id"])
        self.waiting = []

    def _asked(self) -> list[Line]:
        """The whole lines that were written since."""
        path = inbox(self.layout)
        if not path.exists() or path.stat().st_size <= self.offset:
            return []
        found = []
        with open(path, "rb") as file:
            file.seek(self.offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # torn, or still being written
                self.offset += len(raw)
                line = _parsed(raw)
                if line and line["id"] not in self.decided:
                    found.append(line)
        return found

    def _mark(self, frame: int, before: int) -> None:
        """Say where the earliest change can be; only advice, so it need not be durable."""
        if frame == self.marked:
            return
        self.marked, path = frame, edge(self.layout)
        spare = path.with_name(path.name + disk.SPARE)
        spare.write_text(json.dumps({"frame": frame + before}))
        os.replace(spare, path)


def unwrapped(rollout: Any) -> tuple[Rollout, int]:
    """The rollout itself, and the frames of an earlier video that come before it."""
    inner = getattr(rollout, "rollout", None)
    return (rollout, 0) if inner is None else (inner, rollout.before)


def follow(layout: Layout, rollout: Any) -> None:
    """Tell a new rollout of the edits that the reel took; before it loads a snapshot."""
    taken: dict[int, list[Edit]] = {}
    for line in journal.notes(layout.journal, EDIT):
        if "refused" not in line:
            taken.setdefault(line["window"], []).append(Edit.from_facts(line))
    unwrapped(rollout)[0].follow(taken)


def rewritten(layout: Layout, manifest: Manifest) -> Manifest:
    """The manifest with the script as it became."""
    facts = manifest.settings.get("script")
    if not isinstance(facts, dict):
        return manifest
    script = Script.from_facts(facts)
    for line in journal.notes(layout.journal, EDIT):
        if "refused" not in line:
            script = edited(script, Edit.from_facts(line), float(manifest.fps))
    return replace(manifest, settings={**manifest.settings, "script": script.facts()})


def _parsed(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw) if len(raw) <= MOST else None
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("id"), str) else None


# ---------------------------------------------------------------- for those who ask
@dataclass(frozen=True)
class Row:
    """A scene of the prompt stream. start, end: seconds (end None: endless). did: how the video went over to it."""

    start: float
    end: float | None
    prompt: str
    state: str
    did: str = ""
    distance: float | None = None


@dataclass(frozen=True)
class Answer:
    """What became of an edit: taken from `seconds` on (window `window`), or waiting for the next window."""

    id: str
    taken: bool
    seconds: float | None = None
    window: int | None = None


class PromptStream:
    """The prompts of a reel that is being made, or that is stopped and will be resumed. ReelError if there is none."""

    def __init__(self, folder: Path | str):
        self.layout = existing(Path(folder))
        self.manifest = manifests.load(self.layout.manifest)
        self.fps = float(self.manifest.fps)
        self.before = self.manifest.settings.get("given", {}).get("video", {}).get("frames", 0)

    def list(self) -> list[Row]:
        """Every scene, with what is known of it."""
        script = Script.from_facts(rewritten(self.layout, self.manifest).settings["script"])
        switches = {line["frame"]: line for line in journal.notes(self.layout.journal, SWITCH)}
        made, begun = self._made(), self.earliest
        ends = [*script.starts[1:], script.frames]
        found = []
        for start, end, scene in zip(script.starts, ends, script.scenes):
            here = next((line for at, line in switches.items() if start <= at - self.before < (end or at + 1)), {})
            state = "made" if end is not None and end + self.before <= made else "to come"
            if state != "made" and start + self.before < begun:
                state = "being made"
            did = here.get("did", "") or ("cut" if scene.cut is True else scene.cut or "")
            seconds = None if end is None else self._seconds(end)
            found.append(Row(self._seconds(start), seconds, scene.prompt, state, did, here.get("distance")))
        return found

    def add(
        self, prompt: str, *, seconds: float | None = None, cut: bool | str | None = None, wait: float = 2.0
    ) -> Answer:
        """A scene after the last one; it makes the video longer."""
        return self._ask("add", prompt, None, seconds, cut, wait)

    def insert(
        self, prompt: str, *, at: float | None = None, seconds: float | None = None, cut: bool | str | None = None,
        wait: float = 2.0,
    ) -> Answer:  # fmt: skip
        """A scene from second `at` on (None: as early as can be); what was planned from there on comes later."""
        return self._ask("insert", prompt, at, seconds, cut, wait)

    def replace(
        self, prompt: str, *, at: float | None = None, cut: bool | str | None = None, wait: float = 2.0
    ) -> Answer:
        """Another prompt from second `at` (None: as early as can be) to the end of the scene that is there."""
        return self._ask("replace", prompt, at, None, cut, wait)

    @property
    def earliest(self) -> int:
        """The first output frame that can still change, as far as is known without the process that makes the video."""
        try:
            marked = json.loads(edge(self.layout).read_text())["frame"]
        except (OSError, ValueError, KeyError, TypeError):
            marked = 0
        return max(marked, self._made(), self.before)

    def _ask(
        self, op: Op, prompt: str, at: float | None, seconds: float | None, cut: bool | str | None, wait: float
    ) -> Answer:
        if next(journal.notes(self.layout.journal, "done"), None):
            raise ReelError(f"{self.layout.folder} is complete: begin a new video, which can go on from it")
        if seconds is not None and not 0 < seconds < float("inf"):
            raise ScriptError(f"--seconds must be a positive number, not {seconds}")
        frame = None if at is None else round(at * self.fps)
        if frame is not None and frame < self.earliest:
            raise TooLate(
                f"{at:g} s has been made, or is being made now: the earliest time that can still change is "
                f"{self.earliest / self.fps:.2f} s (leave --at out to use it)",
                self.earliest,
            )
        frames = None if seconds is None else max(1, round(seconds * self.fps))
        return self._send(Edit(op, prompt, None if frame is None else frame - self.before, frames, cut), wait)

    def _send(self, edit: Edit, wait: float) -> Answer:
        line = {"id": uuid.uuid4().hex[:12], **edit.facts()}
        raw = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if len(raw) > MOST:
            raise ScriptError("that prompt is longer than any model reads: make it shorter")
        with disk.explained(self.layout.folder, "asking for an edit"):
            _append(inbox(self.layout), raw)
        until = time.monotonic() + wait
        while True:
            for found in journal.notes(self.layout.journal, EDIT):
                if found["id"] == line["id"]:
                    return self._answer(found)
            if time.monotonic() >= until:
                return Answer(line["id"], False)
            time.sleep(0.05)

    def _answer(self, line: Line) -> Answer:
        if "refused" in line:
            raise ScriptError(line["refused"])
        return Answer(line["id"], True, self._seconds(line["at"]), line["window"])

    def _made(self) -> int:
        return max((entry.first + entry.frames for entry in journal.segments(self.layout.journal)), default=0)

    def _seconds(self, frame: int) -> float:
        return (frame + self.before) / self.fps


def asked(layout: Layout) -> Iterator[Line]:
    """The edits that nobody has decided yet."""
    decided = {line["id"] for line in journal.notes(layout.journal, EDIT)}
    raws = inbox(layout).read_bytes().splitlines(keepends=True) if inbox(layout).exists() else []
    for line in filter(None, map(_parsed, raws)):
        if line["id"] not in decided:
            yield line


def _append(path: Path, raw: bytes) -> None:
    """One line, durable on return; a torn end that an editor left when it died is cut off first."""
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MOST))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
        disk.put(file, raw)
        os.fsync(file.fileno())
    disk.sync(path.parent)
