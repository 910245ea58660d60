"""A snapshot returns every bit, counts only if it is intact, and old snapshots are deleted within a budget."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from longtake.runs.files import snapshots as snapshot
from longtake.runs.files.snapshots import DTYPES, SnapshotFile, SnapshotPolicy


def test_tensors_of_every_dtype_are_read_back(tmp_path):
    tensors = {str(kind): torch.arange(-3, 9).reshape(3, 4).to(kind) for kind in DTYPES}
    tensors |= {"scalar": torch.tensor(1 / 3), "empty": torch.zeros(0, 3), "turned": torch.randn(3, 4).T}
    facts = {"index": 3, "sigmas": {"0": 0.1 + 0.2}, "none": None, "text": "ü"}
    pending = torch.randint(0, 256, (5, 4, 6, 3), dtype=torch.uint8)
    saved = snapshot.save(tmp_path, 3, 29, 1, True, tensors, facts, pending)
    back, other, waiting = snapshot.load(tmp_path, saved)
    assert other == facts and torch.equal(waiting, pending) and back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name].double(), tensor.double())
    assert snapshot.snapshots(tmp_path) == [saved] and snapshot.newest(tmp_path, 1) == saved
    assert load_file(saved.tensors(tmp_path)).keys() == {f"rollout.{n}" for n in tensors} | {"run.pending_frames"}
    snapshot.save(tmp_path, 4, 30, 1, False, {}, {}, None)
    assert snapshot.load(tmp_path, snapshot.newest(tmp_path, 9)) == ({}, {}, None)


def test_a_snapshot_ahead_of_the_journal_does_not_count(tmp_path):
    old = snapshot.save(tmp_path, 1, 30, 1, False, {}, {}, None)
    snapshot.save(tmp_path, 2, 60, 2, False, {}, {}, None)
    assert snapshot.newest(tmp_path, 1) == old and snapshot.newest(tmp_path, 0) is None
    assert snapshot.delete_later(tmp_path, after=old) == [old] and snapshot.snapshots(tmp_path) == [old]
    assert snapshot.delete_later(tmp_path, after=None) == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("hurt", ["cut", "altered", "gone", "line"])
def test_a_damaged_snapshot_does_not_count(tmp_path, hurt):
    saved = snapshot.save(tmp_path, 1, 30, 1, False, {"x": torch.ones(9)}, {}, None)
    path = saved.tensors(tmp_path)
    data = path.read_bytes()
    if hurt == "line":
        saved.line(tmp_path).write_text(saved.line(tmp_path).read_text().replace('"frames":30', '"frames":31'))
    elif hurt == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if hurt == "cut" else data[:-1] + b"\x41")
    assert snapshot.newest(tmp_path, 9) is None


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.booleans(), st.integers(1, 40)), max_size=30),
    st.integers(0, 200),
    st.integers(1, 3),
)
def test_old_snapshots_are_deleted_within_the_budget(tmp_path_factory, made, budget, last):
    folder, have, frames = tmp_path_factory.mktemp("s"), [], 0
    for window, (step, replay, size) in enumerate(made):
        frames += step
        one = SnapshotFile(window, frames, frames // 24, replay, size, "")
        one.tensors(folder).write_bytes(b"x")
        one.line(folder).write_text("x")
        have = snapshot.prune(folder, [*have, one], SnapshotPolicy(last=last, budget=budget))
        assert have[-last:] == sorted(have, key=lambda s: s.window)[-last:] and have[-1] is one
        rest = have[:-last]
        assert all(s.replay for s in rest) and sum(s.bytes for s in rest) <= budget
        assert len(list(folder.iterdir())) == 2 * len(have)


def test_replay_snapshots_stay_spread_over_the_whole_video(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "MOST_REPLAY", 20)
    have = []
    for window in range(300):
        have = snapshot.prune(tmp_path, [*have, SnapshotFile(window, 240 * window, 0, True, 1, "")], SnapshotPolicy())
    gaps = [b.frames - a.frames for a, b in pairwise(have)]
    assert len(have) == 22 and max(gaps) <= 240 * 40 and have[0].frames <= 240 * 40


def test_a_snapshot_of_another_schema_or_with_other_keys_does_not_count(tmp_path):
    saved = snapshot.save(tmp_path, 1, 30, 1, False, {}, {}, None)
    text = saved.line(tmp_path).read_text()
    for changed in (text.replace('"schema":2', '"schema":1'), text.replace('"replay"', '"again"')):
        saved.line(tmp_path).write_text(changed)
        assert changed != text and snapshot.newest(tmp_path, 9) is None
