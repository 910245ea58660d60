"""Everything that leaves a run has an explicit table of keys: run.json, edits and events; directories of 0.1 are refused."""

import json
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest
import torch

from longtake.engine.events import Frames, StepDone, WindowDone, WindowStarted
from longtake.planning.scene_changes import SceneChanged
from longtake.planning.script_edits import Edit
from longtake.planning.strategies.registry import make_plan
from longtake.runs import (
    Event,
    FileWritten,
    PromptStream,
    PublishedVideo,
    RunError,
    RunFinished,
    RunOpened,
    SegmentWritten,
    SnapshotSaved,
    input_facts,
    manifest_of,
    publish_so_far,
    record,
    repair,
    verify,
)
from longtake.runs.event_schema import EVENTS, SCHEMA_ROW, STOPPED_ROW, event_line, schema_line, stopped_line
from longtake.runs.files.edit_files import HORIZON_KEYS, REQUEST_KEYS, new_request, parse_request
from longtake.runs.files.journal import JOURNAL_LINES
from longtake.runs.files.manifest import MANIFEST_KEYS, VIDEO_KEYS
from longtake.runs.files.schema import Key, SchemaError, check_keys
from longtake.runs.files.snapshots import SNAPSHOT_KEYS
from tests.runs.toy_runs import clock

OLD_MANIFEST = {
    "schema": 1,
    "settings": {"model": "clock", "script": {"scenes": []}, "plan": "endless", "options": {"steps": 4}, "fps": 24.0},
    "seed": 0,
    "weights": "",
    "video": {
        "fps": "24", "width": 16, "height": 16, "frames": 48, "segment": 24, "crf": 18, "preset": "veryfast",
    },
    "threads": 1,
    "versions": {"longtake": "0.1.0", "torch": "2.10.0", "av": "18.0.0"},
    "machine": {"architecture": "x86_64", "instructions": "AVX2", "precision": "highest", "device": "cpu"},
    "about": {"python": "3.11.9", "system": "Linux", "processor": "one"},
}  # fmt: skip
MANIFEST = {name: value for name, value in OLD_MANIFEST.items() if name != "seed"} | {"schema": 2}
OLD_JOURNAL = [
    {"kind": "init", "bytes": 760, "sha256": "0" * 64},
    {"kind": "segment", "index": 0, "first": 0, "frames": 24, "file": "s000000.m4s", "bytes": 9, "sha256": "1" * 64},
]


@pytest.fixture
def old_run(tmp_path) -> Path:
    """Write a run directory as longtake 0.1 did."""
    folder = tmp_path / "old"
    for name in ("media", "snapshots"):
        (folder / name).mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(OLD_MANIFEST, indent=2))
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in OLD_JOURNAL))
    (folder / "media" / "init.mp4").write_bytes(bytes(760))
    (folder / "media" / "s000000.m4s").write_bytes(bytes(9))
    return folder


def test_a_run_directory_of_0_1_is_refused(old_run):
    video, before = clock(), {path: path.read_bytes() for path in old_run.rglob("*") if path.is_file()}
    uses = {
        "manifest": lambda: manifest_of(old_run),
        "record": lambda: next(record(video.rollout(), video.manifest(), old_run)),
        "repair": lambda: list(repair(old_run, video.manifest(), video.rollout)),
        "verify": lambda: list(verify(old_run)),
        "publish": lambda: publish_so_far(old_run),
        "prompts": lambda: PromptStream(old_run),
    }
    for name, use in uses.items():
        with pytest.raises(RunError) as error:
            use()
        assert str(error.value) == f"{old_run} was made by longtake 0.1; finish it with that version", name
    (old_run / "LOCK").unlink()
    assert before == {path: path.read_bytes() for path in old_run.rglob("*") if path.is_file()}


WINDOW = next(iter(make_plan("sliding", steps=2, window=33, overlap=9).windows(97, 4, clock().model.limits)))
PUBLISHED = PublishedVideo(Path("video.mp4"), Path("sheet.png"), 2, 48, 900, "ab", "ef")
EXAMPLES = [
    RunOpened(Path("out"), 0, 0),
    WindowStarted(0, WINDOW, 0, 2),
    StepDone(0, 1, 2),
    Frames(0, torch.zeros(1, 3, 5, 4, 4)),
    WindowDone(0, 5),
    SceneChanged(1, 48, "a blue star", "cut", 0.25),
    SegmentWritten(0, 0, 24, Path("s000000.m4s"), 9, "cd"),
    SnapshotSaved(0, 5, 100),
    FileWritten(Path("x.mp4"), 9, "ef"),
    RunFinished(PUBLISHED),
]


def test_every_event_has_a_row():
    assert set(get_args(Event)) == set(EVENTS) == {type(event) for event in EXAMPLES}
    names = [row.name for row in (*EVENTS.values(), SCHEMA_ROW, STOPPED_ROW)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: EVENTS[type(event)].name)
def test_a_line_has_the_fields_of_its_row(event):
    row, line = EVENTS[type(event)], event_line(event)
    assert json.loads(json.dumps(line)) == line
    assert list(line) == ["event", *row.fields] and line["event"] == row.name


def test_the_other_lines():
    assert schema_line() == {"event": "schema", "version": 1}
    assert stopped_line(Path("out"), None) == {"event": "stopped", "folder": "out", "video": None}
    assert stopped_line(Path("out"), PUBLISHED)["video"] == "video.mp4"


def test_recorded_events_have_rows(tmp_path):
    lines = [event_line(event) for event in record(clock().rollout(), clock().manifest(), tmp_path)]
    assert {line["event"] for line in lines} == {row.name for row in EVENTS.values()} - {
        "scene_changed",
        "file_written",
    }
    assert lines[-1]["frames"] == 127 and Fraction(lines[-1]["segments"]) == 6


KEYS = {"count": Key((int,), "a number"), "share": Key((float,), "a share", optional=True)}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"count": 1, "speed": 2}, "has no key 'speed'"),
        ({"share": 0.5}, "lacks the key 'count'"),
        ({"count": "1"}, "count of it is a str"),
        ({"count": True}, "count of it is a bool"),
        ({"count": 1, "share": None}, "share of it is a NoneType"),
    ],
)
def test_objects_that_differ_from_their_table_fail(value, words):
    check_keys({"count": 1, "share": 1}, KEYS, "it")
    with pytest.raises(SchemaError, match=words):
        check_keys(value, KEYS, "it")


def test_every_key_has_a_meaning():
    tables = [MANIFEST_KEYS, VIDEO_KEYS, SNAPSHOT_KEYS, REQUEST_KEYS, HORIZON_KEYS, *JOURNAL_LINES.values()]
    tables += [row.fields for row in (*EVENTS.values(), SCHEMA_ROW, STOPPED_ROW)]
    for table in tables:
        assert table and all(each.meaning and each.types for each in table.values())


def test_requests_have_the_keys_of_their_table(tmp_path):
    for edit in (Edit("add", "a"), Edit("insert", "b", at=3, frames=9, cut="anchor")):
        number, raw = new_request(edit)
        line = parse_request(raw)
        check_keys(line, REQUEST_KEYS, "a request")
        assert line["id"] == number and Edit.from_facts(line) == edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (dict(schema=True), "has schema True"), (dict(schema="2"), "has schema '2'"), (dict(threads=0), "threads must be"),
        (dict(threads=10**10), "threads must be"), ("[" * 100_000, "is damaged"), (dict(seed=1), "is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_refused_by_what_is_wrong_with_it(tmp_path, damage, message):
    (tmp_path / "run.json").write_text(damage if isinstance(damage, str) else json.dumps(MANIFEST | damage))
    with pytest.raises(RunError, match=message):
        manifest_of(tmp_path)


@pytest.mark.parametrize("inputs", [5, [], {"image": 5}, {"video": {"name": 5}}])
def test_damaged_records_of_inputs_are_refused(tmp_path, inputs):
    settings = MANIFEST["settings"] | {"inputs": inputs}
    (tmp_path / "run.json").write_text(json.dumps(MANIFEST | {"settings": settings}))
    with pytest.raises(RunError, match=r"the inputs in run\.json are damaged"):
        input_facts(manifest_of(tmp_path))
