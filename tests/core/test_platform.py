"""Locks exclude other processes and end with them; peak memory is measured in bytes."""

import os

import torch

from longtake.core.platform import lock_file, peak_memory, sync_folder
from tests.runs.toy_runs import forked, waited


def test_a_locked_file_is_refused_to_another_process(tmp_path):
    def second() -> None:
        with open(tmp_path / "LOCK", "a+b", buffering=0) as file:
            raise SystemExit(3 if lock_file(file) else 4)

    with open(tmp_path / "LOCK", "a+b", buffering=0) as file:
        assert lock_file(file)
        assert waited(forked(second)) == 4
    assert waited(forked(second)) == 3


def test_a_process_waits_for_a_lock(tmp_path):
    reader, writer = os.pipe()

    def hold() -> None:
        with open(tmp_path / "LOCK", "a+b", buffering=0) as file:
            assert lock_file(file)
            os.write(writer, b"1")
            (tmp_path / "held").touch()

    pid = forked(hold)
    os.read(reader, 1)
    with open(tmp_path / "LOCK", "a+b", buffering=0) as file:
        assert lock_file(file, wait=True) and (tmp_path / "held").exists()
    assert waited(pid) == 0


def test_peak_memory_is_in_bytes():
    before = peak_memory()
    held = torch.ones(3 << 24)
    assert held.sum() > 0 and before > 50 << 20
    assert before <= peak_memory() < 1 << 40


def test_a_folder_is_synced(tmp_path):
    sync_folder(tmp_path)
