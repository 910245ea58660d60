"""Tests of the reel: no waiting for the disk, and a contact sheet that takes no time."""

import hashlib

import pytest

from longtake.reel import disk, sheet


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """fsync returns at once: a killed process loses nothing that the system has been handed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk.os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def quick_sheet(request):
    """A hash of what the contact sheet shows, for all tests but its own."""

    def draw(plan, frame, fps, title, note):
        shown = hashlib.sha256(f"{fps} {title} {note}".encode())
        for _, numbers in plan.rows:
            for number in numbers:
                shown.update(frame(number).numpy().tobytes())
        return b"\x89PNG" + shown.digest()

    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_sheet"):
            patch.setattr(sheet, "draw", draw)
        yield
