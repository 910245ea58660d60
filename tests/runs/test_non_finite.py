"""A run whose numbers become NaN stops with a sentence, keeps its segments, and goes on to the same bytes."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from longtake.cli.failures import FAILED, explained
from longtake.runs import RunError, record, verify
from longtake.runs.files import durable, snapshots
from tests.engine.test_finite_check import Spoiled
from tests.runs.toy_runs import clock, content


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder, video = tmp_path_factory.mktemp("whole") / "run", clock(frames=100)
    list(record(video.rollout(), video.manifest(), folder))
    return folder


def broken(video, call, value=float("nan")):
    """The same video by a model whose call number `call` returns a bad number."""
    session = video.model.session
    made = []

    def one():
        made.append(Spoiled(session(), call, value))
        return made[0]

    return replace(video, model=replace(video.model, session=one))


@pytest.mark.parametrize(("call", "window", "segments"), [(1, 0, 0), (2, 1, 1), (5, 2, 2), (7, 3, 3)])
def test_it_stops_and_resumes_to_the_same_bytes(tmp_path, whole, call, window, segments):
    video = clock(frames=100)
    with pytest.raises(RunError) as error:
        list(record(broken(video, call).rollout(), video.manifest(), tmp_path / "r"))
    said = str(error.value)
    assert said.startswith(f"window {window} (from 0), step {call % 2 + 1} of 2: the latents of output frames")
    assert f"{segments} segment" in said and "before it are safe" in said and "longtake resume" in said
    assert explained(error.value)[1] == FAILED == 1
    for line in (tmp_path / "r" / "index.m3u8").read_text().splitlines():
        if line.startswith("media/s"):  # what was shown stays as the good run made it
            assert (tmp_path / "r" / line).read_bytes() == (whole / line).read_bytes()
    list(record(video.rollout(), video.manifest(), tmp_path / "r"))
    assert content(tmp_path / "r") == content(whole)


def test_a_state_with_nan_is_never_written(tmp_path):
    video = clock(frames=100)
    rollout = video.rollout()
    state = rollout.state

    def spoiled():
        tensors, facts = state()
        return {**tensors, "memory": torch.tensor([float("nan")])}, facts

    rollout.state = spoiled
    with pytest.raises(RunError, match=r"after window 0 .* the state memory holds NaN") as error:
        list(record(rollout, video.manifest(), tmp_path / "r"))
    assert explained(error.value)[1] == FAILED
    assert not list((tmp_path / "r" / "snapshots").iterdir())


def test_verify_finds_a_model_that_makes_nan_here(whole):
    video = clock(frames=100)
    checks = list(verify(whole, broken(video, 0).rollout, segment=0))
    assert [check.passed for check in checks].count(False) == 1
    assert "segment 0 cannot be generated again: window 0" in checks[-1].text


def test_verify_finds_nan_in_a_snapshot(whole, tmp_path):
    """A run of an older version may hold black video that followed from such a state."""
    shutil.copytree(whole, tmp_path / "r")
    folder = tmp_path / "r" / "snapshots"
    last = snapshots.snapshots(folder)[-1]
    tensors = {name: tensor for name, tensor in load_file(last.tensors(folder)).items()}
    _, facts, pending = snapshots.load(folder, last)
    inner = {n.removeprefix("rollout."): t for n, t in tensors.items() if n.startswith("rollout.")}
    name = next(name for name, tensor in inner.items() if tensor.is_floating_point())
    inner[name] = torch.full_like(inner[name], float("nan"))
    snapshots.save(folder, last.window, last.frames, last.segments, last.replay, inner, facts, pending)
    assert durable.file_digest(last.tensors(folder)) is not None
    bad = [check.text for check in verify(tmp_path / "r") if not check.passed]
    assert len(bad) == 2 and f"{name} of w{last.window:06d}.safetensors holds NaN or infinity" in bad[1]
