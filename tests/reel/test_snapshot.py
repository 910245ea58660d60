"""A snapshot gives back every bit, counts only when it is whole, and old ones make room."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from longtake.reel import snapshot
from longtake.reel.snapshot import KINDS, Keep, Saved


def test_every_kind_of_tensor_comes_back(tmp_path):
    tensors = {str(kind): torch.arange(-3, 9).reshape(3, 4).to(kind) for kind in KINDS}
    tensors |= {"scalar": torch.tensor(1 / 3), "empty": torch.zeros(0, 3), "turned": torch.randn(3, 4).T}
    facts = {"index": 3, "levels": {"0": 0.1 + 0.2}, "none": None, "text": "ü"}
    pending = torch.randint(0, 256, (5, 4, 6, 3), dtype=torch.uint8)
    saved = snapshot.save(tmp_path, 3, 29, 1, True, tensors, facts, pending)
    back, told, waiting = snapshot.load(tmp_path, saved)
    assert told == facts and torch.equal(waiting, pending) and back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name].double(), tensor.double())
    assert snapshot.saved(tmp_path) == [saved] and snapshot.newest(tmp_path, 1) == saved
    assert load_file(saved.tensors(tmp_path)).keys() == {f"engine.{n}" for n in tensors} | {"reel.pending"}
    snapshot.save(tmp_path, 4, 30, 1, False, {}, {}, None)
    assert snapshot.load(tmp_path, snapshot.newest(tmp_path, 9)) == ({}, {}, None)


def test_one_that_is_ahead_of_the_journal_does_not_count(tmp_path):
    old = snapshot.save(tmp_path, 1, 30, 1, False, {}, {}, None)
    snapshot.save(tmp_path, 2, 60, 2, False, {}, {}, None)
    assert snapshot.newest(tmp_path, 1) == old and snapshot.newest(tmp_path, 0) is None
    assert snapshot.forget(tmp_path, after=old) == [old] and snapshot.saved(tmp_path) == [old]
    assert snapshot.forget(tmp_path, after=None) == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("hurt", ["cut", "altered", "gone", "line"])
def test_one_that_is_not_whole_does_not_count(tmp_path, hurt):
    saved = snapshot.save(tmp_path, 1, 30, 1, False, {"x": torch.ones(9)}, {}, None)
    path = saved.tensors(tmp_path)
    data = path.read_bytes()
    if hurt == "line":
        saved.line(tmp_path).write_text(saved.line(tmp_path).read_text().replace('"frames": 30', '"frames": 30x'))
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
def test_room_is_made_within_the_budget(tmp_path_factory, made, budget, last):
    folder, have, frames = tmp_path_factory.mktemp("s"), [], 0
    for window, (step, replay, size) in enumerate(made):
        frames += step
        one = Saved(window, frames, frames // 24, replay, size, "")
        one.tensors(folder).write_bytes(b"x")
        one.line(folder).write_text("x")
        have = snapshot.prune(folder, [*have, one], Keep(last=last, budget=budget))
        assert have[-last:] == sorted(have, key=lambda s: s.window)[-last:] and have[-1] is one
        rest = have[:-last]
        assert all(s.replay for s in rest) and sum(s.bytes for s in rest) <= budget
        assert len(list(folder.iterdir())) == 2 * len(have)


def test_replay_snapshots_stay_spread_over_the_whole_video(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "MOST", 20)
    have = []
    for window in range(300):
        have = snapshot.prune(tmp_path, [*have, Saved(window, 240 * window, 0, True, 1, "")], Keep())
    gaps = [b.frames - a.frames for a, b in pairwise(have)]
    assert len(have) == 22 and max(gaps) <= 240 * 40 and have[0].frames <= 240 * 40
