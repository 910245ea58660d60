"""Folders that several processes fill together."""

import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from longtake.models import builtin
from longtake.train import crew
from longtake.train.cache import SHARD
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


def die_elsewhere(here, share, report):
    """A share of work, for whose lack of memory any process but `here` is killed."""
    if os.getpid() != here:
        os._exit(9)
    report(f"done alone: {share}")


def test_the_work_is_done_if_a_helping_process_dies(capfd):
    fill_together(die_elsewhere, os.getpid(), crew=2)
    said = capfd.readouterr().out.splitlines()
    assert "going on with one process" in said[0] and said[1:] == ["done alone: (0, 1)"]


def test_a_share_ends_when_the_process_that_asked_for_it_is_gone(monkeypatch, capsys):
    done = []

    def fill(share, report):
        for number in range(3):
            done.append(number)
            report(f"{number} done")

    for alive, want in ((True, [0, 1, 2]), (False, [0])):
        done.clear()
        monkeypatch.setattr(crew, "parent_process", lambda alive=alive: SimpleNamespace(is_alive=lambda: alive))
        with nullcontext() if alive else pytest.raises(SystemExit):
            crew._work(fill, (), (0, 2))
        assert done == want
    monkeypatch.undo()
    done.clear()
    crew._work(fill, (), (1, 2))
    assert done == [0, 1, 2] and capsys.readouterr().out.splitlines() == [f"{n} done" for n in (0, 1, 2, 0)]


def test_a_rank_on_a_gpu_takes_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(crew.os, "sched_getaffinity", lambda who: range(24), raising=False)
    assert [crew_size(torch.device("cuda"), world) for world in (1, 2, 8, 64)] == [crew.MOST, 12, 3, 1]
    assert crew_size(torch.device("cpu"), 1) == 1
