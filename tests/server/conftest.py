"""Fixtures for tests of the server: fsync that returns at once, and a run that grows."""

import os

import pytest

from tests.server.serving import GrowingRun


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Make fsync return at once: nothing here cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def run(tmp_path):
    """A run that grows when the test says so."""
    growing = GrowingRun(tmp_path / "run")
    yield growing
    growing.stop()
