"""A run that was stopped anywhere becomes the same bytes when resumed; other settings are refused in one sentence."""

import json
import os
import re
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise

import pytest
import torch

from longtake.engine.events import Frames, StepDone, WindowDone
from longtake.media import video_io as media
from longtake.models import load
from longtake.runs import (
    RunError,
    RunFinished,
    RunOpened,
    SegmentWritten,
    SnapshotPolicy,
    SnapshotSaved,
    manifest_of,
    publish_so_far,
    record,
)
from longtake.runs.files import journal as journals
from longtake.runs.files.layout import Layout, locked
from tests.runs.toy_runs import Video, clock, content, counted, forked, waited

WAYS = {
    "sliding": dict(steps=2, window=33, overlap=9),
    "relay": dict(steps=2, window=33, overlap=5),
    "soft": dict(steps=2, window=33, overlap=9),
    "looping": dict(steps=2, tile=32, overlap=8, adain=0.2, reference=1.0),
    "continuous": dict(steps=4, ar_step=2, window=33),
    "blocks": dict(steps=2, window=33, causal_block_size=2),
}


def all_of(video: Video, folder, **options):
    return list(record(video.rollout(), video.manifest(), folder, **options))


def stopped(video: Video, folder, after: int, **options) -> int:
    """Leave the loop after some events; return how many there were."""
    with closing(record(video.rollout(), video.manifest(), folder, **options)) as events:
        count = 0
        for count, _ in enumerate(events, 1):
            if count == after:
                break
        return count


def test_the_video_holds_the_generated_frames(tmp_path):
    events = all_of(clock(), tmp_path)
    assert isinstance(events[0], RunOpened) and isinstance(events[-1], RunFinished)
    assert counted(tmp_path / "video.mp4") == list(range(127))
    written = [e for e in events if isinstance(e, SegmentWritten)]
    assert [(e.index, e.first, e.frames) for e in written] == [(i, 24 * i, min(24, 127 - 24 * i)) for i in range(6)]
    assert sum(e.video.shape[2] for e in events if isinstance(e, Frames)) == 127
    assert events[-1].published.frames == 127 and events[-1].published.segments == 6
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("way", WAYS)
def test_stopped_after_any_event_and_resumed(tmp_path, way):
    video = clock(name=way, options=WAYS[way], frames=71, segment=10)
    count = len(all_of(video, tmp_path / "whole"))
    expected = content(tmp_path / "whole")
    for after in sorted({1, 2, 3, *range(5, count, max(1, count // 8)), count - 1}):
        folder = tmp_path / str(after)
        stopped(video, folder, after)
        assert not (folder / "video.mp4").exists()
        lines = list(journals.segments(folder / "journal.jsonl"))
        assert all(line.frames == 10 or line.first == 70 for line in lines)  # never a short one but the last
        all_of(video, folder)
        assert content(folder) == expected, after


def test_stopped_again_and_again(tmp_path):
    video = clock(frames=200)
    all_of(video, tmp_path / "whole")
    for _ in range(100):
        if stopped(video, tmp_path / "often", 20) < 20:
            break
    assert content(tmp_path / "often") == content(tmp_path / "whole")


def test_a_resume_starts_at_the_last_snapshot(tmp_path):
    video = clock(frames=200)
    with closing(record(video.rollout(), video.manifest(), tmp_path)) as events:
        snapshot = [e for e in islice(events, 30) if isinstance(e, SnapshotSaved)][-1]
    again = all_of(video, tmp_path)
    assert again[0].frames == snapshot.frames > 50
    assert next(e for e in again if isinstance(e, Frames)).first == snapshot.frames
    marked = {e.index: e.repeated for e in again if isinstance(e, SegmentWritten)}
    assert marked == {i: i < again[0].segments for i in range(snapshot.frames // 24, 9)}


def test_a_finished_run_stays_as_it_is(tmp_path):
    all_of(clock(), tmp_path)
    before, journal = content(tmp_path), (tmp_path / "journal.jsonl").read_bytes()
    opened, done = all_of(clock(), tmp_path)
    assert isinstance(opened, RunOpened) and isinstance(done, RunFinished)
    (tmp_path / "video.mp4").unlink()
    assert all_of(clock(), tmp_path)[-1] == done
    assert content(tmp_path) == before and (tmp_path / "journal.jsonl").read_bytes() == journal


def test_damaged_snapshots_are_skipped(tmp_path):
    video = clock(frames=200)
    all_of(video, tmp_path / "whole")
    assert stopped(video, tmp_path / "cut", 40, policy=SnapshotPolicy(last=3)) == 40
    files = sorted((tmp_path / "cut" / "snapshots").glob("*.safetensors"))
    assert len(files) == 3
    data = bytearray(files[2].read_bytes())
    data[-1] ^= 1
    files[2].write_bytes(data)
    files[1].with_suffix(".json").write_text("{")
    (tmp_path / "cut" / "snapshots" / "w000099.safetensors").write_bytes(b"half")
    (tmp_path / "cut" / "media" / "s000099.m4s.tmp").write_bytes(b"half")
    assert all_of(video, tmp_path / "cut", policy=SnapshotPolicy(last=3))[0].frames > 0
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert stopped(video, tmp_path / "new", 40) == 40
    for file in (tmp_path / "new" / "snapshots").iterdir():
        file.unlink()
    assert all_of(video, tmp_path / "new")[0].frames == 0
    assert content(tmp_path / "new") == content(tmp_path / "whole")


def test_a_run_that_lost_segments_is_refused_until_it_is_repaired(tmp_path):
    """The snapshot does not need the lost segment, but a viewer may have seen it: only --repair restores it."""
    video = clock(frames=200)
    assert stopped(video, tmp_path, 40) == 40
    last = sorted((tmp_path / "media").glob("*.m4s"))[-1]
    last.unlink()
    with pytest.raises(RunError, match=rf"{last.name} .*altered or deleted.*--repair"):
        all_of(video, tmp_path)


# ---------------------------------------------------------------- endless
def test_an_endless_run_can_be_watched_and_resumed(tmp_path):
    video = clock(frames=None)
    stopped(video, tmp_path, 60, finish=True)
    shown = counted(tmp_path / "video.mp4")
    assert shown == list(range(len(shown))) and len(shown) % 24 == 0 and len(shown) > 50
    assert "ENDLIST" not in (tmp_path / "index.m3u8").read_text()
    first = publish_so_far(tmp_path)
    assert first.frames == len(shown) and len(list(journals.lines_of_kind(tmp_path / "journal.jsonl", "video"))) == 1
    stopped(video, tmp_path, 60)
    assert publish_so_far(tmp_path).frames > first.frames
    assert counted(tmp_path / "video.mp4")[: len(shown)] == shown
    assert publish_so_far(tmp_path) == publish_so_far(tmp_path)


def test_a_run_without_a_segment_publishes_nothing(tmp_path):
    stopped(clock(frames=None), tmp_path, 2, finish=True)
    assert publish_so_far(tmp_path) is None and not (tmp_path / "video.mp4").exists()


# ---------------------------------------------------------------- refused
def refusal(video: Video, manifest, folder, **options) -> str:
    with pytest.raises(RunError) as error:
        next(record(video.rollout(), manifest, folder, **options))
    return str(error.value)


def test_changed_settings_are_refused_with_the_difference(tmp_path):
    video = clock()
    stopped(video, tmp_path, 20)
    before = (tmp_path / "run.json").read_bytes()
    now = replace(
        video.manifest(steps=9, sampling={"seed": 7}),
        weights="other",
        versions=video.manifest().versions | {"torch": "1.0"},
    )
    text = refusal(video, now, tmp_path)
    for line in (
        "steps: was 2, now 9",
        "seed: was 0, now 7",
        'torch: was "',
        'now "1.0"',
        "--allow steps --allow seed",
    ):
        assert line in text
    assert "plan:" not in text and "threads" not in text
    assert (tmp_path / "run.json").read_bytes() == before
    text = refusal(video, now, tmp_path, allow=["seed", "steps"])
    assert "weights" in text and "seed:" not in text


def test_a_difference_that_is_allowed_is_journalled(tmp_path):
    video = clock()
    stopped(video, tmp_path, 40)
    now = replace(video.manifest(), versions=video.manifest().versions | {"torch": "1.0"})
    list(record(video.rollout(), now, tmp_path, allow=["torch"]))
    note = next(journals.lines_of_kind(tmp_path / "journal.jsonl", "differences_allowed"))
    assert note["differences"] == [{"name": "torch", "was": torch.__version__, "now": "1.0"}]
    assert manifest_of(tmp_path).versions["torch"] == "1.0"
    assert counted(tmp_path / "video.mp4") == list(range(127))


@pytest.mark.parametrize("field", [dict(segment=12), dict(frames=100), dict(size=(8, 8)), dict(fps=25)])
def test_the_format_of_a_video_cannot_change_within_a_run(tmp_path, field):
    video = clock()
    stopped(video, tmp_path, 40)
    text = refusal(video, replace(video.manifest(), **field), tmp_path, allow=["all"])
    assert "start a new run in another folder" in text and "--allow" not in text


def test_another_video_with_the_same_manifest_is_detected(tmp_path):
    """A change that the manifest does not record shows when segments are generated again."""
    video = Video(
        load("gauss", size=32), name="sliding", options=dict(steps=2, window=9, overlap=3), frames=90, segment=5
    )
    stopped(video, tmp_path, 60, policy=SnapshotPolicy(every=1000))
    changed = replace(video, seed=1)
    with pytest.raises(RunError, match=r"segment 0 .* came out different from the recorded one .*--allow segments"):
        list(record(changed.rollout(), video.manifest(), tmp_path))
    kept = [line.sha256 for line in journals.segments(tmp_path / "journal.jsonl")]
    list(record(changed.rollout(), video.manifest(), tmp_path, allow=["segments"]))
    assert [line["index"] for line in journals.lines_of_kind(tmp_path / "journal.jsonl", "different")] == list(
        range(len(kept))
    )
    assert [line.sha256 for line in journals.segments(tmp_path / "journal.jsonl")][: len(kept)] == kept


def test_a_resume_uses_the_recorded_number_of_threads(tmp_path):
    video = clock()
    seen = set()
    assert stopped(video, tmp_path, 20) == 20
    torch.set_num_threads(2)  # recorded with 1
    try:
        for event in record(video.rollout(), video.manifest(), tmp_path):
            if isinstance(event, StepDone):
                seen.add(torch.get_num_threads())
        assert seen == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_new_video_is_not_written_into_an_existing_run(tmp_path):
    stopped(clock(), tmp_path, 40)
    assert re.search("already holds a run.*longtake resume", refusal(clock(), clock().manifest(), tmp_path, fresh=True))


def test_a_second_process_is_refused(tmp_path):
    video = clock()
    with closing(record(video.rollout(), video.manifest(), tmp_path)) as events:
        next(events)

        def second():
            text = refusal(video, video.manifest(), tmp_path)
            assert f"being written by process {os.getppid()}" in text and f"`kill {os.getppid()}`" in text

        assert waited(forked(second)) == 0
    all_of(video, tmp_path)  # and free again


def test_the_lock_ends_with_its_process(tmp_path):
    def hold():
        held = locked(Layout(tmp_path))
        held.__enter__()
        os._exit(3)

    assert waited(forked(hold)) == 3
    with locked(Layout(tmp_path)):
        assert (tmp_path / "LOCK").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"schema": 2}', "is damaged"),
        ('{"schema": 2, "speed": 1}', "has no key 'speed'"),
        ('{"schema": 1}', "was made by longtake 0.1; finish it with that version$"),
        ('{"schema": 3}', "has schema 3, and this version of longtake reads 2"),
    ],
)
def test_a_manifest_that_cannot_be_read(tmp_path, text, words):
    (tmp_path / "run.json").write_text(text)
    assert re.search(words, refusal(clock(), clock().manifest(), tmp_path))


def test_a_manifest_is_read_back_as_it_was_written(tmp_path):
    video = clock()
    manifest = video.manifest(nested={"a": [1, 2.5, None, "ü"]})
    next(record(video.rollout(), manifest, tmp_path))
    assert manifest_of(tmp_path) == manifest
    assert json.loads((tmp_path / "run.json").read_text())["schema"] == 2
    with pytest.raises(RunError, match="is not a run directory"):
        manifest_of(tmp_path / "nowhere")


def test_several_videos_at_once_are_refused(tmp_path):
    video = clock()
    rollout = video.rollout()
    two = rollout.run
    rollout.run = lambda: (
        replace(e, video=e.video.repeat(2, 1, 1, 1, 1)) if isinstance(e, Frames) else e for e in two()
    )
    with pytest.raises(RunError, match="a run holds one video"):
        list(record(rollout, video.manifest(), tmp_path))


def test_frames_out_of_order_are_refused(tmp_path):
    video = clock()
    rollout = video.rollout()
    run = rollout.run
    rollout.run = lambda: (replace(e, first=e.first + 1) if isinstance(e, Frames) else e for e in run())
    with pytest.raises(RunError, match="frame 1 of 16x16, but frame 0"):
        list(record(rollout, video.manifest(), tmp_path))


def test_recording_does_not_change_the_frames(tmp_path):
    """Frame events pass through unchanged, and the end of a window comes before its snapshot."""
    video = clock()
    plain = [e for e in video.rollout().run() if isinstance(e, Frames)]
    events = all_of(video, tmp_path)
    recorded = [e for e in events if isinstance(e, Frames)]
    assert all(torch.equal(a.video, b.video) for a, b in zip(plain, recorded, strict=True))
    for before, event in pairwise(events):
        if isinstance(event, SnapshotSaved):
            assert isinstance(before, WindowDone) and (before.index, before.frames) == (event.window, event.frames)
    assert (
        media.encode(recorded[0].frames[0][:24], 0, video.manifest().fps).media
        == (tmp_path / "media" / "s000000.m4s").read_bytes()
    )
