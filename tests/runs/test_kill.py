"""A run that is killed at random moments and resumed each time becomes the same bytes as one that was never killed.

Models: the toy clock, a small Wan, a small causal Wan with a KV cache, and the built-in model.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from longtake.models import builtin, load
from longtake.runs import SnapshotPolicy, record
from longtake.runs.files import durable as disk
from tests.checkpoints import random_wan
from tests.runs.toy_runs import Video, clock, content, forked, kill, waited

pytestmark = pytest.mark.long

KILLS = {"clock": 5, "wan": 5, "causal": 5, "pocket": 2}  # from outside; twice as many between disk operations


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Video]:
    """Return the videos; their models are loaded once, and forked processes inherit them."""
    root = tmp_path_factory.mktemp("wan")
    small = dict(frames=60, segment=7)
    made = {
        "clock": clock(frames=150, name="continuous", options=dict(steps=4, ar_step=2, window=33)),
        "wan": Video(load(random_wan(root / "both")), name="relay", options=dict(steps=2, overlap=5), **small),
        "causal": Video(
            load(random_wan(root / "causal", causal=True)), name="blocks", options=dict(steps=3, sink_frames=1), **small
        ),
    }
    if "pocket" in builtin():
        made["pocket"] = Video(
            load("pocket"), name="continuous", options=dict(steps=2, ar_step=1, window=17), frames=29, segment=7
        )
    return made


MODELS = ["clock", "wan", "causal", *({"pocket"} & set(builtin()))]


def run(video: Video, folder: Path) -> None:
    """Record the video to its end, resuming it if the folder holds it already."""
    for _ in record(video.rollout(), video.manifest(), folder, policy=SnapshotPolicy(every=5)):
        pass


@pytest.mark.parametrize("name", MODELS)
def test_killed_from_outside_at_random_moments(tmp_path, videos, name):
    video, kills = videos[name], 0
    begun = time.monotonic()
    assert waited(forked(lambda: run(video, tmp_path / "whole"))) == 0
    takes = time.monotonic() - begun
    expected, number = content(tmp_path / "whole"), 0
    while kills < KILLS[name]:  # a run that ends before it is killed does not count: start another one
        pid = forked(lambda folder=tmp_path / str(number): run(video, folder))
        time.sleep(random.uniform(0, takes / 2))
        if kill(pid):
            kills += 1
        else:
            assert content(tmp_path / str(number)) == expected
            number += 1
    assert waited(forked(lambda: run(video, tmp_path / str(number)))) == 0
    assert content(tmp_path / str(number)) == expected


@pytest.mark.parametrize("name", MODELS)
def test_killed_between_any_two_disk_operations(tmp_path, videos, name, monkeypatch):
    """The process dies before or half-way through a write, a sync or a rename; the resumed one dies again."""
    video, steps, kills = videos[name], [], 0
    with monkeypatch.context() as patch:
        die_at(None, steps, patch)
        run(video, tmp_path / "whole")
    assert len(steps) > 30
    for number in range(20):
        while kills < 2 * KILLS[name]:
            with monkeypatch.context() as patch:
                die_at(random.randrange(len(steps) // 3), [], patch)
                code = waited(forked(lambda folder=tmp_path / str(number): run(video, folder)))
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        run(video, tmp_path / str(number))
        assert content(tmp_path / str(number)) == content(tmp_path / "whole")
        if kills >= 2 * KILLS[name]:
            return
    pytest.fail(f"only {kills} kills")


def die_at(count: int | None, steps: list[str], patch: pytest.MonkeyPatch) -> None:
    """Record every disk operation in `steps`, and kill the process at number `count`; of a write, half is done."""
    put, replace, unlink = disk.write_all, os.replace, Path.unlink

    def step(name: str) -> bool:
        steps.append(name)
        return len(steps) - 1 == count

    def dying(name, call):
        def act(*arguments, **options):
            if step(name):
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return act

    def writing(file, data):
        if step("write"):
            put(file, bytes(data)[: len(bytes(data)) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        put(file, data)

    patch.setattr(disk, "write_all", writing)
    patch.setattr(os, "fsync", dying("sync", lambda descriptor: None))
    patch.setattr(os, "replace", dying("rename", replace))
    patch.setattr(Path, "unlink", dying("delete", unlink))


def test_a_rollout_that_forgets_state_is_noticed(tmp_path, videos):
    """A resume that changes the KV cache gives another video."""
    video = videos["causal"]
    run(video, tmp_path / "whole")
    forgetful = video.rollout()
    load_state = forgetful.load
    forgetful.load = lambda tensors, facts: load_state(
        {k: v + 0.1 if ".session." in k and v.is_floating_point() else v for k, v in tensors.items()}, facts
    )
    pid = forked(
        lambda: [os._exit(7) for i, _ in enumerate(record(video.rollout(), video.manifest(), tmp_path / "r")) if i > 60]
    )
    assert waited(pid) == 7
    for _ in record(forgetful, video.manifest(), tmp_path / "r", allow=["segments"]):
        pass
    assert content(tmp_path / "r") != content(tmp_path / "whole")
