"""Endless in constant memory: over ten thousand frames resident memory does not grow, nor what is alive in Python."""

import gc
from array import array
from collections.abc import Callable
from contextlib import closing
from itertools import combinations
from pathlib import Path
from statistics import median

import pytest
import torch

from longtake.events import Ended, Frames
from longtake.models import load
from longtake.reel import Event, Keep, Segment, record
from tests.checkpoints import random_ltx
from tests.reel.reels import Video, clock

FRAMES, WARM, SEGMENT = 14_000, 3_500, 100  # measured after a quarter: caches fill first
RESOLUTION = 8.0  # bytes per frame that the allocator's settling may look like; a frame of 16 x 16 is 3072
Z_99 = 2.576  # of a normal distribution
STATM = Path("/proc/self/statm")

pytestmark = pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")


@pytest.fixture(autouse=True)
def few_objects():
    """Set aside all objects that are there already: the garbage collector is then quick."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Meter:
    """Samples after every segment: frames made, resident bytes, live objects and tensors. It keeps plain numbers only."""

    def __init__(self):
        self.frames, self.resident, self.objects, self.tensors = (array("q") for _ in range(4))

    def sample(self, frames: int) -> None:
        gc.collect()
        alive = gc.get_objects()
        self.frames.append(frames)
        self.resident.append(int(STATM.read_text().split()[1]) * 4096)
        self.objects.append(len(alive))
        self.tensors.append(sum(issubclass(type(thing), torch.Tensor) for thing in alive))

    def slope(self, what: array) -> tuple[float, float]:
        """The 99 % interval of the growth per frame (Sen 1968), from the medians of ten blocks.

        It looks at the slope between every two blocks, so that one step (a page taken for good) is no growth.
        """
        size, count = len(what) // 10, 10
        cut = [slice(i * size, (i + 1) * size) for i in range(count)]
        points = [(median(self.frames[c]), median(what[c])) for c in cut]
        slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))
        width = Z_99 * (count * (count - 1) * (2 * count + 5) / 18) ** 0.5
        low = round((len(slopes) - width) / 2) - 1
        return slopes[low], slopes[-1 - low]

    def complaints(self) -> list[str]:
        """What grows."""
        found = []
        if self.slope(self.resident)[0] > RESOLUTION:
            found.append(f"memory: {self.slope(self.resident)} bytes per frame")
        if self.slope(self.objects)[0] > 0:
            found.append(f"objects: {self.slope(self.objects)} per frame")
        if self.slope(self.tensors)[0] > 0:
            found.append(f"tensors: {self.slope(self.tensors)} per frame")
        return found


SLIDING = clock(frames=None, segment=SEGMENT, options=dict(steps=1, window=97, overlap=17))


def recorded(folder: Path, leak: Callable[[Event], object] = lambda event: None, video: Video = SLIDING) -> Meter:
    """An endless recording, measured."""
    keep, meter = Keep(every=SEGMENT, replay=20.0, budget=50_000), Meter()
    with closing(record(video.rollout(), video.manifest(), folder, keep=keep)) as events:
        for event in events:
            leak(event)
            if isinstance(event, Segment):
                made = event.first + event.frames
                event = None
                if made >= FRAMES:
                    return meter
                if made > WARM:
                    meter.sample(made)
    raise AssertionError("an endless video came to an end")


def test_memory_stays_as_it_is(tmp_path):
    meter = recorded(tmp_path)
    assert meter.frames[-1] - meter.frames[0] >= 10_000
    assert meter.complaints() == []
    assert len(list((tmp_path / "snapshots").iterdir())) < 60


LTX = {
    "relay": dict(steps=1, window=97, overlap=9),
    "looping": dict(steps=1, tile=80, overlap=24, strength=0.5, adain=0.25, reference=1),
}


@pytest.mark.parametrize("name", LTX)
def test_memory_of_ltx_stays_as_it_is(tmp_path, name):
    """Its rolling decoder carries state, and a loop its first tile and a reference."""
    model = load(random_ltx(tmp_path / "model", view=16, size=8))
    meter = recorded(tmp_path / "reel", video=Video(model, None, name, LTX[name], SEGMENT))
    assert meter.frames[-1] - meter.frames[0] >= 10_000
    assert meter.complaints() == []


LEAKS = {
    "a frame": (
        lambda kept, event: isinstance(event, Frames) and kept.append(event.video.clone()),
        ("memory", "tensors"),
    ),
    "a tensor per window": (lambda kept, event: isinstance(event, Ended) and kept.append(torch.zeros(1)), "tensors"),
    "a note per window": (lambda kept, event: isinstance(event, Ended) and kept.append([]), "objects"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_seen(tmp_path, leak):
    kept = []
    add, word = LEAKS[leak]
    meter = recorded(tmp_path, lambda event: add(kept, event))
    assert any(text.startswith(word) for text in meter.complaints()), meter.complaints()
