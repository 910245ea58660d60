"""Fixtures for tests of runs: fsync that returns at once, a contact sheet that costs no time, and one torch thread."""

import hashlib
import os

import pytest
import torch

from longtake.runs import contact_sheet as sheet


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Make fsync return at once: a killed process loses nothing that it handed to the system."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def quick_sheet(request):
    """Replace the contact sheet by a hash of its frames and titles, but for its own tests."""

    def draw(layout, frame, fps, title, note):
        shown = hashlib.sha256(f"{fps} {title} {note}".encode())
        for _, numbers in layout.rows:
            for number in numbers:
                shown.update(frame(number).numpy().tobytes())
        return b"\x89PNG" + shown.digest()

    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_contact_sheet"):
            patch.setattr(sheet, "draw", draw)
        yield


@pytest.fixture(autouse=True)
def one_thread(threads):
    """One torch thread, whatever LONGTAKE_TEST_THREADS says: a fork has none of its parent's other threads."""
    torch.set_num_threads(1)
