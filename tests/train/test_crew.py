"""Folders that several processes fill together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from longtake.models import builtin
from longtake.train import crew
from longtake.train.cache import SHARD, filled
from longtake.train.crew import crew_size, fill_together
from longtake.train.data import Latents, Source
from longtake.train.video import encode_clips

SOURCE = Source(frames=1, switch=0.0)


def test_several_processes_fill_a_folder_as_one_does(tmp_path, capfd):
    codec = builtin()["pocket"] / "vae"
    fill_together(encode_clips, tmp_path / "one", SOURCE, SHARD + 2, codec)
    said = capfd.readouterr().out.splitlines()
    assert said == [f"{SHARD} of {SHARD + 2} clips encoded", f"{SHARD + 2} of {SHARD + 2} clips encoded"]
    fill_together(encode_clips, tmp_path / "two", SOURCE, SHARD + 2, codec, crew=2)
    assert capfd.readouterr().out.splitlines() == said[:1]  # the second shard is the other one's
    assert torch.equal(Latents(tmp_path / "one").latents, Latents(tmp_path / "two").latents)
    assert (tmp_path / "one" / "cache.json").read_text() == (tmp_path / "two" / "cache.json").read_text()


def test_what_goes_wrong_in_another_process_is_raised_here(tmp_path):
    codec = builtin()["pocket"] / "vae"
    fill_together(encode_clips, tmp_path, SOURCE, 1, codec)
    with pytest.raises(ValueError, match="holds other clips"):
        fill_together(encode_clips, tmp_path, Source(frames=5, switch=0.0), 1, codec, crew=2)


def test_a_full_folder_needs_no_other_process(tmp_path, monkeypatch):
    codec = builtin()["pocket"] / "vae"
    fill_together(encode_clips, tmp_path, SOURCE, 2, codec)
    assert filled(tmp_path, 2) and not filled(tmp_path, 3) and not filled(tmp_path, SHARD + 1)
    monkeypatch.setattr(crew, "ProcessPoolExecutor", None)
    fill_together(encode_clips, tmp_path, SOURCE, 2, codec, done=True, crew=2)
    with pytest.raises(ValueError, match="holds other clips"):
        fill_together(encode_clips, tmp_path, Source(frames=5, switch=0.0), 2, codec, done=True, crew=2)


def die_elsewhere(here, share, report):
    """A share of work, for whose lack of memory any process but `here` is killed."""
    if os.getpid() != here:
        os._exit(9)
    report(f"done alone: {share}")


def test_the_work_is_done_if_a_helping_process_dies(capfd):
    fill_together(die_elsewhere, os.getpid(), crew=2)
    said = capfd.readouterr().out.splitlines()
    assert "going on with one process" in said[0] and said[1:] == ["done alone: (0, 1)"]


def report_for_long(folder, share, report):
    """A share of work that takes a minute, by a process that leaves its number in a folder."""
    (folder / str(os.getpid())).touch()
    for number in range(600):
        time.sleep(0.1)
        report(f"{number} done")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_processes_end_when_the_one_that_asked_is_killed(tmp_path):
    code = f"from tests.train.test_crew import *; fill_together(report_for_long, Path({str(tmp_path)!r}), crew=2)"
    asked = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    finally:
        asked.kill()
        asked.wait()
    wait_until(lambda: not any(runs(path.name) for path in tmp_path.iterdir()), 20)


def runs(process):
    """Whether a process of this number is there, and has not ended unnoticed."""
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
    monkeypatch.setattr(crew.os, "sched_getaffinity", lambda who: range(24), raising=False)
    assert [crew_size(torch.device("cuda"), world) for world in (1, 2, 8, 64)] == [crew.MOST, 12, 3, 1]
    assert crew_size(torch.device("cpu"), 1) == 1
