"""Folders that several processes fill together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from longtake.models import builtin
from longtake.pocket.clips import Source
from longtake.train.datasets import encode_workers
from longtake.train.datasets.encode_workers import default_num_workers, encode_parallel
from longtake.train.datasets.latent_shards import SHARD, filled
from longtake.train.datasets.pocket import PocketLatents
from longtake.train.video.training import encode_clips
from tests.train.datasets.shares import die_elsewhere, fail

SOURCE = Source(frames=1, switch=0.0)


@pytest.mark.long
def test_several_processes_fill_a_folder_as_one_does(tmp_path, capfd):
    vae = builtin()["pocket"] / "vae"
    encode_parallel(encode_clips, tmp_path / "one", SOURCE, SHARD + 2, vae)
    lines = capfd.readouterr().out.splitlines()
    assert lines == [f"{SHARD} of {SHARD + 2} clips encoded", f"{SHARD + 2} of {SHARD + 2} clips encoded"]
    encode_parallel(encode_clips, tmp_path / "two", SOURCE, SHARD + 2, vae, num_workers=2)
    assert capfd.readouterr().out.splitlines() == lines[:1]  # the other worker encodes the second shard
    assert torch.equal(PocketLatents(tmp_path / "one").latents, PocketLatents(tmp_path / "two").latents)
    assert (tmp_path / "one" / "cache.json").read_text() == (tmp_path / "two" / "cache.json").read_text()


@pytest.mark.long
def test_an_error_of_a_worker_is_raised_here(tmp_path):
    with pytest.raises(ValueError, match="holds other clips"):
        encode_parallel(fail, tmp_path, num_workers=2)


def test_a_full_folder_starts_no_worker(tmp_path, monkeypatch):
    vae = builtin()["pocket"] / "vae"
    encode_parallel(encode_clips, tmp_path, SOURCE, 2, vae)
    assert filled(tmp_path, 2) and not filled(tmp_path, 3) and not filled(tmp_path, SHARD + 1)
    monkeypatch.setattr(encode_workers, "ProcessPoolExecutor", None)
    encode_parallel(encode_clips, tmp_path, SOURCE, 2, vae, done=True, num_workers=2)
    with pytest.raises(ValueError, match="holds other clips"):
        encode_parallel(encode_clips, tmp_path, Source(frames=5, switch=0.0), 2, vae, done=True, num_workers=2)


@pytest.mark.long
def test_the_work_is_done_if_a_worker_dies(capfd):
    encode_parallel(die_elsewhere, os.getpid(), num_workers=2)
    lines = capfd.readouterr().out.splitlines()
    assert "continuing with one process" in lines[0] and lines[1:] == ["done alone: (0, 1)"]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = f"from pathlib import Path; from tests.train.datasets.shares import report_for_long; from longtake.train.datasets.encode_workers import encode_parallel; encode_parallel(report_for_long, Path({str(tmp_path)!r}), num_workers=2)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(runs(path.name) for path in tmp_path.iterdir()), 20)


def runs(process):
    """Whether a process of this number is there, and is no zombie."""
    try:
        return Path("/proc", process, "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(true, seconds=60):
    """Wait for something to become true."""
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last
        time.sleep(0.05)


def test_a_rank_on_a_gpu_takes_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(encode_workers.os, "sched_getaffinity", lambda who: range(24), raising=False)
    assert [default_num_workers(torch.device("cuda"), world) for world in (1, 2, 8, 64)] == [
        encode_workers.MOST,
        12,
        3,
        1,
    ]
    assert default_num_workers(torch.device("cpu"), 1) == 1
