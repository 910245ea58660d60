"""The events of `--format json`: one table of their names and fields, independent of the classes behind them.

The first line is `schema_line()`; each further line is `event_line(event)`, an object with the key "event".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.engine.events import Frames, StepDone, WindowDone, WindowStarted
from longtake.planning.scene_changes import SceneChanged
from longtake.runs.events import FileWritten, PublishedVideo, RunFinished, RunOpened, SegmentWritten, SnapshotSaved
from longtake.runs.files.schema import Keys, check_keys, key

EVENT_SCHEMA = 1
Values = dict[str, Any]


@dataclass(frozen=True)
class EventRow:
    """An event as clients see it: its name, its fields, and how they are read from the object behind it."""

    name: str
    meaning: str
    fields: Keys
    values: Callable[[Any], Values]


_WINDOW = key("number of the window, from 0", int)
_VIDEO: Keys = {
    "video": key("path of video.mp4", str),
    "sheet": key("path of the contact sheet", str),
    "segments": key("segments in the video", int),
    "frames": key("output frames in the video", int),
    "bytes": key("size of video.mp4", int),
    "sha256": key("SHA-256 of video.mp4", str),
    "sheet_sha256": key("SHA-256 of the contact sheet", str),
}


SCHEMA_ROW = EventRow(
    "schema",
    "the first line",
    {"version": key("version of this table", int)},
    lambda version: {"version": version},
)
STOPPED_ROW = EventRow(
    "stopped",
    "the user or the system stopped the run, which can be resumed",
    {"folder": key("run directory", str), "video": key("path of video.mp4; null if none was written", str, None)},
    lambda e: {"folder": str(e[0]), "video": None if e[1] is None else str(e[1].video)},
)


def _run_opened(e: RunOpened) -> Values:
    return {"folder": str(e.folder), "frames": e.frames, "segments": e.segments}


def _window_started(e: WindowStarted) -> Values:
    return {"window": e.index, "steps": e.steps, "latents": len(e.window.frames), "frames": e.frames}


def _step_done(e: StepDone) -> Values:
    return {"window": e.index, "step": e.step, "steps": e.steps}


def _frames_decoded(e: Frames) -> Values:
    return {"first": e.first, "frames": e.video.shape[2]}


def _window_done(e: WindowDone) -> Values:
    return {"window": e.index, "frames": e.frames}


def _scene_changed(e: SceneChanged) -> Values:
    return {"window": e.index, "frame": e.frame, "prompt": e.prompt, "transition": e.transition, "distance": e.distance}


def _segment_written(e: SegmentWritten) -> Values:
    numbers = {"segment": e.index, "first": e.first, "frames": e.frames}
    return {**numbers, "path": str(e.path), "bytes": e.bytes, "sha256": e.sha256, "repeated": e.repeated}


def _snapshot_saved(e: SnapshotSaved) -> Values:
    return {"window": e.window, "frames": e.frames, "bytes": e.bytes}


def _published(e: RunFinished) -> Values:
    return {"video": str(e.published.video), "sheet": str(e.published.sheet), **e.published.facts()}


EVENTS: Mapping[type, EventRow] = {
    RunOpened: EventRow(
        "run_opened",
        "the run directory is open",
        {
            "folder": key("run directory", str),
            "frames": key("output frames before the next window", int),
            "segments": key("segments on disk", int),
        },
        _run_opened,
    ),
    WindowStarted: EventRow(
        "window_started",
        "a window starts",
        {
            "window": _WINDOW,
            "steps": key("model calls that the window needs", int),
            "latents": key("latent frames in view", int),
            "frames": key("output frames before the window", int),
        },
        _window_started,
    ),
    StepDone: EventRow(
        "step_done",
        "a step (a model call) is done",
        {"window": _WINDOW, "step": key("number of the step, from 1", int), "steps": key("steps of the window", int)},
        _step_done,
    ),
    Frames: EventRow(
        "frames_decoded",
        "output frames are decoded; they may not be durable yet",
        {"first": key("number of the first frame", int), "frames": key("number of frames", int)},
        _frames_decoded,
    ),
    WindowDone: EventRow(
        "window_done",
        "a window is done",
        {"window": _WINDOW, "frames": key("output frames so far", int)},
        _window_done,
    ),
    SceneChanged: EventRow(
        "scene_changed",
        "the next scene of the script begins",
        {
            "window": _WINDOW,
            "frame": key("output frame from which on the scene is generated", int),
            "prompt": key("prompt of the scene", str),
            "transition": key("keep, cut, anchor or resample", str),
            "distance": key("1 - cosine similarity of the prompt embeddings", float),
        },
        _scene_changed,
    ),
    SegmentWritten: EventRow(
        "segment_written",
        "a segment is durable and may be played",
        {
            "segment": key("number of the segment, from 0", int),
            "first": key("number of its first output frame", int),
            "frames": key("output frames in it", int),
            "path": key("path of the media file", str),
            "bytes": key("size of the media file", int),
            "sha256": key("SHA-256 of the media file", str),
            "repeated": key("whether a resume generated a segment again that was on disk already", bool),
        },
        _segment_written,
    ),
    SnapshotSaved: EventRow(
        "snapshot_saved",
        "from now on a resume continues after this window",
        {
            "window": _WINDOW,
            "frames": key("output frames by then", int),
            "bytes": key("size of the snapshot", int),
        },
        _snapshot_saved,
    ),
    FileWritten: EventRow(
        "file_written",
        "the finished file that --output names is complete",
        {
            "path": key("path of the file", str),
            "bytes": key("its size", int),
            "sha256": key("its SHA-256", str),
            "run_kept": key("whether the run directory stays", bool),
        },
        lambda e: {"path": str(e.path), "bytes": e.bytes, "sha256": e.sha256, "run_kept": e.run_kept},
    ),
    RunFinished: EventRow("published", "the video is complete", _VIDEO, _published),
}


def schema_line() -> dict[str, Any]:
    """Return the first line, which names the version of the table."""
    return _line(SCHEMA_ROW, EVENT_SCHEMA)


def event_line(event: Any) -> dict[str, Any]:
    """Return the line of an event. Raises KeyError for a class without a row, SchemaError if fields do not match the row."""
    return _line(EVENTS[type(event)], event)


def stopped_line(folder: Path, published: PublishedVideo | None) -> dict[str, Any]:
    """Return the last line of a run that was stopped. published: the video that was written of it, if any."""
    return _line(STOPPED_ROW, (folder, published))


def _line(row: EventRow, event: Any) -> dict[str, Any]:
    values = row.values(event)
    check_keys(values, row.fields, f"the event {row.name}")
    return {"event": row.name, **values}
