"""Edits of the script of a run in progress: durable before they are used, equal after any kill, never of shown frames."""

import json
import os
import random
import signal

import pytest

from longtake.cli import run as longtake
from longtake.engine.build import build_rollout
from longtake.engine.events import StepDone, WindowDone
from longtake.planning.scene_changes import SceneChanged
from longtake.planning.script import Scene, Script
from longtake.planning.script_edits import TooLate
from longtake.planning.strategies.registry import make_plan
from longtake.runs import PromptStream, RunError, SnapshotPolicy, record, verify
from longtake.runs.edit_inbox import follow_accepted_edits
from longtake.runs.files import journal
from longtake.runs.files.layout import Layout
from tests.runs.test_kill import die_at
from tests.runs.toy_runs import Video, clock, counted, forked, waited
from tests.runs.toy_runs import content as everything


class Story(Video):
    """A clock with three scenes."""

    script = Script.of([Scene("a", 2.0), Scene("b", 2.0), Scene("c", 1.0)], 24)

    def rollout(self):
        return build_rollout(self.model, self.script, make_plan(self.name, **self.options), seeds=(self.seed,))

    def manifest(self, **settings):
        return super().manifest(script=self.script.facts(), **settings)


def story() -> Story:
    return Story(clock().model, frames=120, segment=12)


def generate(video, folder, at=None, ask=lambda stream: None, rollout=None):
    """Record or resume the run; before window `at` request the edit, once."""
    for event in record(rollout or video.rollout(), video.manifest(), folder, policy=SnapshotPolicy(every=5)):
        if isinstance(event, StepDone) and event.index + 1 == at and not Layout(folder).edit_requests.exists():
            ask(PromptStream(folder))
    return folder


def again(video, folder, into):
    """Generate the same video from the accepted edits in the journal alone."""
    rollout = video.rollout()
    follow_accepted_edits(Layout(folder), rollout)
    rollout.timeline.follow = lambda changes: None
    return generate(video, into, rollout=rollout)


def content(folder):
    """Return all hashes but that of the contact sheet, whose headings come from the edits in the journal."""
    return {name: sha for name, sha in everything(folder).items() if name != "sheet.png"}


def lines(folder, kind):
    return list(journal.lines_of_kind(folder / "journal.jsonl", kind))


def test_an_edit_takes_effect_at_the_next_window_and_is_recorded(tmp_path):
    video, folder = story(), tmp_path / "r"
    generate(video, folder, 2, lambda stream: stream.insert("x", seconds=1.0, cut=True, wait=0))
    (edit,) = lines(folder, "edit")
    assert edit["window"] == 2 and edit["at"] == 57 and edit["frames"] == 24
    assert counted(folder / "video.mp4") == [*range(57), *range(120 + 24 - 57)]
    assert [(s["frame"], s["did"]) for s in lines(folder, "scene")][:2] == [(57, "cut"), (90, "keep")]
    assert content(again(video, folder, tmp_path / "again")) == content(folder)
    checks = list(verify(folder, video.rollout, segment=7))
    assert all(check.passed for check in checks)
    assert any("an edit before window 2: insert from 2.38 s on" in f.text for f in checks)
    assert any(
        "a scene change at 2.38 s: a new shot, without context frames; prompt distance" in f.text for f in checks
    )


@pytest.mark.parametrize("op", ["replace", "add"])
def test_an_edit_that_leaves_one_frame_at_the_anchor_does_not_stop_the_video(tmp_path, op):
    last = dict(at=119 / 24) if op == "replace" else dict(seconds=1 / 24)
    ask = lambda stream: getattr(stream, op)("x", cut="anchor", wait=0, **last)
    video, folder = story(), generate(story(), tmp_path / "r", 2, ask)
    assert counted(folder / "video.mp4") == [*range(119 if op == "replace" else 120), 0]
    assert content(again(video, folder, tmp_path / "again")) == content(folder)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_between_a_request_and_its_use(tmp_path, seed, monkeypatch):
    """The process dies at any disk operation, also half-way through the line of the decision."""
    rng, video, folder = random.Random(seed), story(), tmp_path / "r"
    ask = lambda stream: stream.insert("x", seconds=1.0, cut=True, wait=0)
    for _ in range(4):
        with monkeypatch.context() as patch:
            die_at(rng.randrange(4, 60), [], patch)
            code = waited(forked(lambda: generate(video, folder, 2, ask)))
        if code == 0:
            break
        assert code == -signal.SIGKILL
    generate(video, folder, 2, ask)
    assert len(lines(folder, "edit")) == 1
    assert content(again(video, folder, tmp_path / "again")) == content(folder)


def test_a_resume_never_changes_durable_frames(tmp_path):
    """An edit that was requested while the run was stopped takes effect behind the last durable frame."""
    video, folder = story(), tmp_path / "r"
    pid = forked(lambda: [os._exit(7) for e in record(video.rollout(), video.manifest(), folder) if stops(e)])
    assert waited(pid) == 7
    stream = PromptStream(folder)
    durable = stream.durable_frames
    with pytest.raises(TooLate, match="the earliest time that can still change is"):
        stream.replace("x", at=0.5)
    assert not stream.replace("x", wait=0).accepted
    assert stream.scenes()[0].state == "generated" or durable < 48
    generate(video, folder)
    (edit,) = lines(folder, "edit")
    assert edit["at"] >= durable > 0
    assert content(again(video, folder, tmp_path / "again")) == content(folder)
    with pytest.raises(RunError, match="is complete"):
        stream.add("z")


def stops(event):
    return isinstance(event, WindowDone) and event.index == 3


@pytest.mark.long
def test_several_processes_edit_a_run_in_progress(tmp_path):
    video, folder = story(), tmp_path / "r"
    events = record(video.rollout(), video.manifest(), folder)
    for event in events:
        if isinstance(event, WindowDone):
            break

    def ask(name):
        for i in range(8):
            PromptStream(folder).add(f"{name} {i}", seconds=0.5, wait=0)

    pids = [forked(lambda name=name: ask(name)) for name in ("one", "two", "three")]
    taken = len(lines(folder, "edit"))
    for event in events:
        taken = max(taken, len(lines(folder, "edit")))
        if isinstance(event, WindowDone) and pids:
            assert all(waited(pid) == 0 for pid in pids[:1])
            pids = pids[1:]
    made = lines(folder, "edit")
    assert len({line["id"] for line in made}) == len(made) == 24
    assert not PromptStream(folder).pending()
    assert counted(folder / "video.mp4") == list(range(120 + 24 * 12))


def test_an_incomplete_line_is_cut_off_and_other_lines_are_skipped(tmp_path):
    video, folder = story(), tmp_path / "r"
    events = record(video.rollout(), video.manifest(), folder)
    next(events)
    inbox = Layout(folder).edit_requests
    inbox.write_bytes(
        b'not json\n{"schema": 2, "no": "id"}\n{"id": "old", "op": "add", "prompt": "p"}\n'
        b'{"schema": 2, "id": "bad", "op": "erase", "prompt": "p"}\n{"schema": 2, "id": "torn", "op"'
    )
    PromptStream(folder).add("d", seconds=1.0, wait=0)
    for _ in events:
        pass
    bad, good = lines(folder, "edit")
    assert "an edit is one of" in bad["refused"] and good["prompt"] == "d"
    assert counted(folder / "video.mp4") == list(range(144))


def test_every_scene_change_is_recorded_once(tmp_path):
    video, folder = story(), tmp_path / "r"
    for _ in range(3):
        events = record(video.rollout(), video.manifest(), folder)
        for event in events:
            if isinstance(event, SceneChanged):
                break
        events.close()
    generate(video, folder)
    assert [line["prompt"] for line in lines(folder, "scene")] == ["b", "c"]


def test_the_command(tmp_path, capsys):
    video, folder = story(), tmp_path / "r"
    events = record(video.rollout(), video.manifest(), folder)
    for event in events:
        if isinstance(event, WindowDone):
            break
    assert longtake(["prompts", str(folder), "replace", "a blue star", "--at", "4", "--wait", "0"]) == 0
    assert longtake(["prompts", str(folder), "insert", "late", "--at", "0.1"]) == 2
    assert longtake(["prompts", str(folder), "add"]) == 2
    assert longtake(["prompts", str(tmp_path), "list"]) == 2
    out, errors = capsys.readouterr()
    assert "pending" in out
    assert "the earliest time that can still change is 1.38 s" in errors and "give a prompt" in errors
    for _ in events:
        pass
    assert longtake(["prompts", str(folder), "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["prompt"] for row in shown["scenes"]] == ["a", "b", "a blue star"]
    assert [row["state"] for row in shown["scenes"]] == ["generated"] * 3
    assert longtake(["prompts", str(folder)]) == 0
    assert "a blue star" in capsys.readouterr().out
