"""What is measured of a shot while its frames go by; memory does not grow with the length of the video.

Brightness, sharpness and motion are taken eight times a second, of pictures whose shorter side is at most 270 pixels, so
that the numbers of a phone clip and of a 4K film can be compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from longtake.data.shots import Detector
from longtake.data.video import Frame

SIDE = 270  # pixels of the shorter side while measuring
RATE = 8  # samples per second


@dataclass(frozen=True)
class Measures:
    """Means over a shot. brightness: 0 black to 255 white. sharpness: variance of the Laplacian.

    motion: mean absolute difference of grey values an eighth of a second apart. damaged: frames the decoder could not
    fully restore. look: 128 bits in hexadecimal, of the first picture and of the mean one; similar shots differ in few.
    """

    brightness: float
    sharpness: float
    motion: float
    damaged: int
    look: str


@dataclass(frozen=True)
class Piece:
    """A stretch of a video between two cuts. stamps: of all its frames, in ticks."""

    start: int
    stamps: list[int]
    measures: Measures


@dataclass(frozen=True)
class Sample:
    """A frame that was measured. step: mean absolute change since sample `before`."""

    number: int
    before: int
    brightness: float
    sharpness: float
    step: float
    tiny: np.ndarray


def pieces(frames: Iterator[Frame], detector: Detector, base: Fraction, longest: float) -> Iterator[Piece]:
    """The shots of a video, in order; one longer than `longest` seconds comes in pieces of that length."""
    pending, most = Pending(base), round(longest / base)
    for frame in frames:
        pending.add(frame)
        for cut in sorted(detector.push(frame.picture)):
            yield pending.until(cut)
        while (end := pending.first_at(most)) is not None and end < detector.settled:
            yield pending.until(end)
    for cut in sorted(detector.finish()):
        yield pending.until(cut)
    if pending.stamps:
        yield pending.until(pending.start + len(pending.stamps))


class Pending:
    """The frames since the last cut: their stamps, and the samples taken of them."""

    def __init__(self, base: Fraction):
        self.start = 0
        self.stamps: deque[int] = deque()
        self._base = base
        self._samples: deque[Sample] = deque()
        self._damaged: deque[int] = deque()
        self._due: Fraction | None = None
        self._grey: np.ndarray | None = None
        self._last = -1

    def add(self, frame: Frame) -> None:
        """Take the next frame in."""
        self.stamps.append(frame.stamp)
        if frame.damaged:
            self._damaged.append(frame.number)
        now = frame.stamp * self._base
        if self._due is None or now >= self._due:
            self._due = now + Fraction(1, RATE) * Fraction(15, 16)  # an uneven frame time must not skip a sample
            self._sample(frame)

    def _sample(self, frame: Frame) -> None:
        grey = frame.picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        small = _grid(grey, 36, 64)
        step = 0.0 if self._grey is None else float(np.abs(small - self._grey).mean())
        found = Sample(frame.number, self._last, float(grey.mean()), _laplacian(grey), step, _grid(grey, 8, 9))
        self._samples.append(found)
        self._grey, self._last = small, frame.number

    def first_at(self, ticks: int) -> int | None:
        """The number of the first frame at least `ticks` after the start, if it has come."""
        if not self.stamps or self.stamps[-1] - self.stamps[0] < ticks:
            return None
        low, high = 0, len(self.stamps) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.stamps[middle] - self.stamps[0] >= ticks else (middle + 1, high)
        return self.start + max(low, 1)

    def until(self, stop: int) -> Piece:
        """Give the frames before number `stop` away."""
        start, self.start = self.start, stop
        stamps = [self.stamps.popleft() for _ in range(stop - start)]
        samples = []
        while self._samples and self._samples[0].number < stop:
            samples.append(self._samples.popleft())
        damaged = 0
        while self._damaged and self._damaged[0] < stop:
            self._damaged.popleft()
            damaged += 1
        return Piece(start, stamps, _mean(samples, start, damaged))


def _mean(samples: list[Sample], start: int, damaged: int) -> Measures:
    if not samples:  # shorter than an eighth of a second
        return Measures(0.0, 0.0, 0.0, damaged, "")
    steps = [sample.step for sample in samples if sample.before >= start]
    look = _bits(samples[0].tiny) + _bits(np.mean([sample.tiny for sample in samples], 0))
    return Measures(
        round(float(np.mean([sample.brightness for sample in samples])), 2),
        round(float(np.mean([sample.sharpness for sample in samples])), 2),
        round(float(np.mean(steps)), 3) if steps else 0.0,
        damaged,
        look,
    )


def _laplacian(grey: np.ndarray) -> float:
    """Variance of the Laplacian of grey values (H W): large for sharp edges."""
    middle = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle).var())


def _grid(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Means of grey values (H W) over a grid, as (rows, columns)."""
    down = np.linspace(0, grey.shape[0], rows + 1).astype(int)
    right = np.linspace(0, grey.shape[1], columns + 1).astype(int)
    total = np.pad(grey.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    low, high = np.minimum(down[:-1], grey.shape[0] - 1), np.maximum(down[1:], np.minimum(down[:-1], len(grey) - 1) + 1)
    left = np.minimum(right[:-1], grey.shape[1] - 1)
    end = np.maximum(right[1:], left + 1)
    part = total[high][:, end] - total[low][:, end] - total[high][:, left] + total[low][:, left]
    return (part / ((high - low)[:, None] * (end - left))).astype(np.float32)


def _bits(tiny: np.ndarray) -> str:
    """The difference hash of a tiny picture (8 9): whether each pixel is darker than its right neighbour."""
    return np.packbits(tiny[:, :-1] < tiny[:, 1:]).tobytes().hex()


def distance(look: str, other: str) -> int:
    """Bits in which two looks differ, of 128; 128 if one of them is not known."""
    return (int(look, 16) ^ int(other, 16)).bit_count() if look and other else 128
