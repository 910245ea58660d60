"""Endless in constant memory: over ten thousand frames resident memory does not grow, nor does the number of tensors."""

import gc
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch

from longtake.engine import Frames
from longtake.reel import Keep, Segment, record
from tests.reel.reels import Video, clock

FRAMES, SEGMENT = 12_000, 100
T_99 = 3.36  # Student's t for 99 % and 8 degrees of freedom
PAGE = 4096


@dataclass(frozen=True)
class Sample:
    """After so many frames: resident bytes, and tensors that are alive."""

    frames: int
    resident: int
    tensors: int


def samples(video: Video, folder: Path, leak: list | None = None) -> Iterator[Sample]:
    """One for every segment of an endless recording, the first quarter left out (caches fill)."""
    keep = Keep(every=SEGMENT, replay=20.0, budget=200_000)
    with closing(record(video.rollout(), video.manifest(), folder, keep=keep)) as events:
        for event in events:
            if isinstance(event, Frames) and leak is not None:
                leak.append(event.video.clone())
            if isinstance(event, Segment):
                made = event.first + event.frames
                event = None
                if made > FRAMES:
                    return
                if made > FRAMES // 4:
                    gc.collect()
                    yield Sample(made, resident(), alive())


@pytest.fixture(autouse=True)
def few_objects():
    """Set aside all objects that are there already: the garbage collector is then quick."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def alive() -> int:
    """Tensors that came into being during the test and are still there."""
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def slope(samples: list[Sample]) -> tuple[float, float]:
    """Bytes per frame, and half the width of its 99 % interval, from the means of ten blocks (neighbours are alike)."""
    size = len(samples) // 10
    blocks = [samples[i * size : (i + 1) * size] for i in range(10)]
    x = [fmean(s.frames for s in block) for block in blocks]
    y = [fmean(s.resident for s in block) for block in blocks]
    mean_x, mean_y = fmean(x), fmean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    rise = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / spread
    rest = [b - mean_y - rise * (a - mean_x) for a, b in zip(x, y)]
    return rise, T_99 * (sum(r * r for r in rest) / 8 / spread) ** 0.5


def flat(samples: list[Sample]) -> bool:
    """Whether memory and tensors stayed as they were."""
    rise, width = slope(samples)
    tensors = [s.tensors for s in samples]
    return abs(rise) <= max(width, 0.05 * PAGE / SEGMENT) and stdev(tensors) < 2


def test_memory_stays_as_it_is(tmp_path):
    video = clock(frames=None, segment=SEGMENT, options=dict(steps=1, window=97, overlap=17))
    seen = list(samples(video, tmp_path))
    assert seen[-1].frames - seen[0].frames > 8_000
    assert flat(seen), (slope(seen), [s.tensors for s in seen])
    assert len(list((tmp_path / "snapshots").iterdir())) < 60


def test_a_leak_would_be_seen(tmp_path):
    video = clock(frames=None, segment=SEGMENT, options=dict(steps=1, window=97, overlap=17))
    seen = list(samples(video, tmp_path, leak=[]))
    assert not flat(seen)
    rise, width = slope(seen)
    assert rise > width, (rise, width)
