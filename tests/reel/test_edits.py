"""Prompts edited while a reel is made: durable before they are used, the same after any kill, never in the past."""

import json
import os
import random
import signal

import pytest

from longtake.cli import run as longtake
from longtake.events import Called, Ended
from longtake.live import Switched
from longtake.prompts import TooLate
from longtake.reel import Keep, PromptStream, ReelError, edits, journal, record, verify
from longtake.reel.layout import Layout
from longtake.script import Scene, Script
from tests.reel.reels import Video, clock, counted, forked, waited
from tests.reel.reels import content as everything
from tests.reel.test_kill import die_at


class Story(Video):
    """A clock of three scenes."""

    script = Script.of([Scene("a", 2.0), Scene("b", 2.0), Scene("c", 1.0)], 24)

    def rollout(self):
        made = super().rollout()
        return type(made)(self.model, self.script, made.plan, seeds=(self.seed,))

    def manifest(self, **settings):
        return super().manifest(script=self.script.facts(), **settings)


def story() -> Story:
    return Story(clock().model, frames=120, segment=12)


def make(video, folder, at=None, ask=lambda stream: None, rollout=None):
    """Record, or go on; before window `at` the edit is asked for, once."""
    for event in record(rollout or video.rollout(), video.manifest(), folder, keep=Keep(every=5)):
        if isinstance(event, Called) and event.index + 1 == at and not edits.inbox(Layout(folder)).exists():
            ask(PromptStream(folder))
    return folder


def again(video, folder, into):
    """The same video, from the journal alone."""
    rollout = video.rollout()
    edits.follow(Layout(folder), rollout)
    rollout.follow = lambda changes: None
    return make(video, into, rollout=rollout)


def content(folder):
    """All but the contact sheet, whose headings come from the journal's edits."""
    return {name: sha for name, sha in everything(folder).items() if name != "sheet.png"}


def lines(folder, kind):
    return list(journal.notes(folder / "journal.jsonl", kind))


def test_an_edit_takes_effect_at_the_next_window_and_is_recorded(tmp_path):
    video, folder = story(), tmp_path / "r"
    make(video, folder, 2, lambda stream: stream.insert("x", seconds=1.0, cut=True, wait=0))
    (edit,) = lines(folder, "edit")
    assert edit["window"] == 2 and edit["at"] == 57 and edit["frames"] == 24
    assert counted(folder / "video.mp4") == [*range(57), *range(120 + 24 - 57)]
    assert [(s["frame"], s["did"]) for s in lines(folder, "switch")][:2] == [(57, "cut"), (90, "keep")]
    assert content(again(video, folder, tmp_path / "again")) == content(folder)
    findings = list(verify(folder, video.rollout, segment=7))
    assert all(finding.fine for finding in findings)
    assert any("an edit, before window 2: insert from 2.38 s on" in f.text for f in findings)
    assert any("a switch at 2.38 s: cut" in f.text for f in findings)


@pytest.mark.parametrize("op", ["replace", "add"])
def test_an_edit_that_leaves_one_frame_at_the_anchor_does_not_stop_the_video(tmp_path, op):
    last = dict(at=119 / 24) if op == "replace" else dict(seconds=1 / 24)
    ask = lambda stream: getattr(stream, op)("x", cut="anchor", wait=0, **last)
    video, folder = story(), make(story(), tmp_path / "r", 2, ask)
    assert counted(folder / "video.mp4") == [*range(119 if op == "replace" else 120), 0]
    assert content(again(video, folder, tmp_path / "again")) == content(folder)


@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_between_asking_and_using(tmp_path, seed, monkeypatch):
    """It dies at any step of the disk, also half-way through the line that says what was decided."""
    rng, video, folder = random.Random(seed), story(), tmp_path / "r"
    ask = lambda stream: stream.insert("x", seconds=1.0, cut=True, wait=0)
    for _ in range(4):
        with monkeypatch.context() as patch:
            die_at(rng.randrange(4, 60), [], patch)
            code = waited(forked(lambda: make(video, folder, 2, ask)))
        if code == 0:
            break
        assert code == -signal.SIGKILL
    make(video, folder, 2, ask)
    assert len(lines(folder, "edit")) == 1
    assert content(again(video, folder, tmp_path / "again")) == content(folder)


def test_a_resume_never_changes_what_was_shown(tmp_path):
    """An edit that waits while nobody makes the video is taken behind the last durable frame."""
    video, folder = story(), tmp_path / "r"
    pid = forked(lambda: [os._exit(7) for e in record(video.rollout(), video.manifest(), folder) if stops(e)])
    assert waited(pid) == 7
    stream = PromptStream(folder)
    durable = stream._made()
    with pytest.raises(TooLate, match="the earliest time that can still change is"):
        stream.replace("x", at=0.5)
    assert not stream.replace("x", wait=0).taken
    assert stream.list()[0].state == "made" or durable < 48
    make(video, folder)
    (edit,) = lines(folder, "edit")
    assert edit["at"] >= durable > 0
    assert content(again(video, folder, tmp_path / "again")) == content(folder)
    with pytest.raises(ReelError, match="is complete"):
        stream.add("z")


def stops(event):
    return isinstance(event, Ended) and event.index == 3


def test_several_editors_and_a_maker_at_once(tmp_path):
    video, folder = story(), tmp_path / "r"
    events = record(video.rollout(), video.manifest(), folder)
    for event in events:
        if isinstance(event, Ended):
            break

    def ask(name):
        for i in range(8):
            PromptStream(folder).add(f"{name} {i}", seconds=0.5, wait=0)

    pids = [forked(lambda name=name: ask(name)) for name in ("one", "two", "three")]
    taken = len(lines(folder, "edit"))
    for event in events:
        taken = max(taken, len(lines(folder, "edit")))
        if isinstance(event, Ended) and pids:
            assert all(waited(pid) == 0 for pid in pids[:1])
            pids = pids[1:]
    made = lines(folder, "edit")
    assert len({line["id"] for line in made}) == len(made) == 24
    assert not list(edits.asked(Layout(folder)))
    assert counted(folder / "video.mp4") == list(range(120 + 24 * 12))


def test_a_torn_line_is_cut_off_and_nonsense_is_passed_over(tmp_path):
    video, folder = story(), tmp_path / "r"
    events = record(video.rollout(), video.manifest(), folder)
    next(events)
    inbox = edits.inbox(Layout(folder))
    inbox.write_bytes(b'not json\n{"no": "id"}\n{"id": "bad", "op": "erase", "prompt": "p"}\n{"id": "torn", "op"')
    PromptStream(folder).add("d", seconds=1.0, wait=0)
    for _ in events:
        pass
    bad, good = lines(folder, "edit")
    assert "an edit is one of" in bad["refused"] and good["prompt"] == "d"
    assert counted(folder / "video.mp4") == list(range(144))


def test_every_switch_is_written_once(tmp_path):
    video, folder = story(), tmp_path / "r"
    for _ in range(3):
        events = record(video.rollout(), video.manifest(), folder)
        for event in events:
            if isinstance(event, Switched):
                break
        events.close()
    make(video, folder)
    assert [line["prompt"] for line in lines(folder, "switch")] == ["b", "c"]


def test_the_command(tmp_path, capsys):
    video, folder = story(), tmp_path / "r"
    events = record(video.rollout(), video.manifest(), folder)
    for event in events:
        if isinstance(event, Ended):
            break
    assert longtake(["prompts", str(folder), "replace", "a blue star", "--at", "4", "--wait", "0"]) == 0
    assert longtake(["prompts", str(folder), "insert", "late", "--at", "0.1"]) == 2
    assert longtake(["prompts", str(folder), "add"]) == 2
    assert longtake(["prompts", str(tmp_path), "list"]) == 2
    out, errors = capsys.readouterr()
    assert "asked for" in out
    assert "the earliest time that can still change is 1.38 s" in errors and "say what should be seen" in errors
    for _ in events:
        pass
    assert longtake(["prompts", str(folder), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["prompt"] for row in told["scenes"]] == ["a", "b", "a blue star"]
    assert [row["state"] for row in told["scenes"]] == ["made"] * 3
    assert longtake(["prompts", str(folder)]) == 0
    assert "a blue star" in capsys.readouterr().out
