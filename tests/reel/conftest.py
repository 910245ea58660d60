"""Tests of the reel: no waiting for the disk (a killed process loses nothing that the system has been handed)."""

import pytest

from longtake.reel import disk


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """fsync returns at once."""
    monkeypatch.setattr(disk.os, "fsync", lambda descriptor: None)
