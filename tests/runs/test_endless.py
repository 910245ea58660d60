"""Endless runs use constant memory: over ten thousand frames neither resident memory nor live Python objects grow."""

import gc
from array import array
from collections.abc import Callable
from contextlib import closing
from itertools import combinations
from pathlib import Path
from statistics import median

import pytest
import torch

from longtake.engine.events import Frames, WindowDone
from longtake.models import load
from longtake.runs import Event, SegmentWritten, SnapshotPolicy, record
from tests.checkpoints import random_ltx
from tests.runs.toy_runs import Video, clock

FRAMES, WARM, SEGMENT = 12_000, 1_800, 100  # frames in all; frames before the first sample, when caches are full
RESOLUTION = (
    8.0  # bytes per frame of growth below which the allocator cannot be told from a leak; a 16 x 16 frame is 3072
)
Z_99 = 2.576  # of a normal distribution
STATM = Path("/proc/self/statm")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc"),
]


@pytest.fixture(autouse=True)
def few_objects():
    """Freeze the objects that exist already, so that the garbage collector is quick."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Meter:
    """Samples of frames generated, resident bytes, live objects and tensors, one after every segment."""

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
        """Return the 99 % interval of the growth per frame (Sen 1968), from the medians of ten blocks.

        It uses the slopes between every two blocks, so that a single step (a page that stays allocated) is not growth.
        """
        size, count = len(what) // 10, 10
        cut = [slice(i * size, (i + 1) * size) for i in range(count)]
        points = [(median(self.frames[c]), median(what[c])) for c in cut]
        slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))
        width = Z_99 * (count * (count - 1) * (2 * count + 5) / 18) ** 0.5
        low = round((len(slopes) - width) / 2) - 1
        return slopes[low], slopes[-1 - low]

    def complaints(self) -> list[str]:
        """Name the quantities that grow."""
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
    """Record an endless video and return its measurements."""
    keep, meter = SnapshotPolicy(every=SEGMENT, replay=20.0, budget=50_000), Meter()
    with closing(record(video.rollout(), video.manifest(), folder, policy=keep)) as events:
        for event in events:
            leak(event)
            if isinstance(event, SegmentWritten):
                made = event.first + event.frames
                event = None
                if made >= FRAMES:
                    return meter
                if made > WARM:
                    meter.sample(made)
    raise AssertionError("an endless video came to an end")


def test_memory_does_not_grow(tmp_path):
    meter = recorded(tmp_path)
    assert meter.frames[-1] - meter.frames[0] >= 10_000
    assert meter.complaints() == []
    assert len(list((tmp_path / "snapshots").iterdir())) < 60


LTX = {
    "relay": dict(steps=1, window=97, overlap=9),
    "looping": dict(steps=1, tile=80, overlap=24, strength=0.5, adain=0.25, reference=1),
}


@pytest.mark.parametrize("name", LTX)
def test_memory_of_ltx_does_not_grow(tmp_path, name):
    """The streaming decoder carries state, and the looping strategy its first tile and a reference."""
    model = load(random_ltx(tmp_path / "model", max_latent_frames=16, size=8))
    meter = recorded(tmp_path / "run", video=Video(model, None, name, LTX[name], SEGMENT))
    assert meter.frames[-1] - meter.frames[0] >= 10_000
    assert meter.complaints() == []


LEAKS = {
    "a frame": (
        lambda kept, event: isinstance(event, Frames) and kept.append(event.video.clone()),
        ("memory", "tensors"),
    ),
    "a tensor per window": (
        lambda kept, event: isinstance(event, WindowDone) and kept.append(torch.zeros(1)),
        "tensors",
    ),
    "a list per window": (lambda kept, event: isinstance(event, WindowDone) and kept.append([]), "objects"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_noticed(tmp_path, leak):
    kept = []
    add, word = LEAKS[leak]
    meter = recorded(tmp_path, lambda event: add(kept, event))
    assert any(text.startswith(word) for text in meter.complaints()), meter.complaints()
