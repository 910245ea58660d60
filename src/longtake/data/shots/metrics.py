"""Metrics of a shot, computed while its frames are read; memory does not grow with the length of the video.

Brightness, sharpness and motion are sampled eight times a second from frames whose shorter side is at most 270 pixels, so
that the metrics of a phone clip and of a 4K film can be compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from longtake.data.shots.detection import Detector
from longtake.media.video_reader import Frame

SIDE = 270  # pixels of the shorter side of a sample
RATE = 8  # samples per second


@dataclass(frozen=True)
class ShotMetrics:
    """Means over a shot. brightness: 0 (black) to 255 (white). sharpness: variance of the Laplacian.

    motion: mean absolute difference of grey values an eighth of a second apart. damaged: frames that the decoder could
    not fully restore. fingerprint: 128 bits in hexadecimal, the difference hashes of the first sample and of the mean
    sample; similar shots differ in few bits. It is empty if the shot is too short for a sample.
    """

    brightness: float
    sharpness: float
    motion: float
    damaged: int
    fingerprint: str


@dataclass(frozen=True)
class ShotPiece:
    """A shot, or a piece of a long one. stamps: the timestamps of all its frames, in ticks."""

    start: int
    stamps: list[int]
    metrics: ShotMetrics


@dataclass(frozen=True)
class Sample:
    """A frame that was measured. step: mean absolute change of grey values since frame `previous`. tiny: (8, 9) grey."""

    number: int
    previous: int
    brightness: float
    sharpness: float
    step: float
    tiny: np.ndarray


def split_shots(frames: Iterator[Frame], detector: Detector, base: Fraction, longest: float) -> Iterator[ShotPiece]:
    """Yield the shots of a video in order, with their metrics.

    base: seconds per tick. longest: seconds; a longer shot comes in pieces of that length.
    """
    pending, most = PendingFrames(base), round(longest / base)
    for frame in frames:
        pending.add(frame)
        for cut in sorted(detector.push(frame.picture)):
            yield pending.take_until(cut)
        while (end := pending.first_after(most)) is not None and end < detector.settled:
            yield pending.take_until(end)
    for cut in sorted(detector.finish()):
        yield pending.take_until(cut)
    if pending.stamps:
        yield pending.take_until(pending.start + len(pending.stamps))


class PendingFrames:
    """The frames since the last cut: their timestamps, and the samples of them."""

    def __init__(self, base: Fraction):
        self.start = 0
        self.stamps: deque[int] = deque()
        self._base = base
        self._samples: deque[Sample] = deque()
        self._damaged: deque[int] = deque()
        self._due: Fraction | None = None
        self._grey: np.ndarray | None = None
        self._previous = -1

    def add(self, frame: Frame) -> None:
        """Add the next frame, and sample it if an eighth of a second has passed."""
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
        sharpness, tiny = _laplacian_variance(grey), _grid(grey, 8, 9)
        self._samples.append(Sample(frame.number, self._previous, float(grey.mean()), sharpness, step, tiny))
        self._grey, self._previous = small, frame.number

    def first_after(self, ticks: int) -> int | None:
        """Return the number of the first frame at least `ticks` after the start; None if it has not come yet."""
        if not self.stamps or self.stamps[-1] - self.stamps[0] < ticks:
            return None
        low, high = 0, len(self.stamps) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.stamps[middle] - self.stamps[0] >= ticks else (middle + 1, high)
        return self.start + max(low, 1)

    def take_until(self, stop: int) -> ShotPiece:
        """Remove the frames before number `stop` and return them as a shot."""
        start, self.start = self.start, stop
        stamps = [self.stamps.popleft() for _ in range(stop - start)]
        samples = []
        while self._samples and self._samples[0].number < stop:
            samples.append(self._samples.popleft())
        damaged = 0
        while self._damaged and self._damaged[0] < stop:
            self._damaged.popleft()
            damaged += 1
        return ShotPiece(start, stamps, _metrics(samples, start, damaged))


def fingerprint_distance(one: str, other: str) -> int:
    """Return the number of bits, of 128, in which two fingerprints differ; 128 if one of them is empty."""
    return (int(one, 16) ^ int(other, 16)).bit_count() if one and other else 128


def _metrics(samples: list[Sample], start: int, damaged: int) -> ShotMetrics:
    if not samples:  # the shot is shorter than an eighth of a second
        return ShotMetrics(0.0, 0.0, 0.0, damaged, "")
    steps = [sample.step for sample in samples if sample.previous >= start]
    mean = np.mean([sample.tiny for sample in samples], 0)
    return ShotMetrics(
        round(float(np.mean([sample.brightness for sample in samples])), 2),
        round(float(np.mean([sample.sharpness for sample in samples])), 2),
        round(float(np.mean(steps)), 3) if steps else 0.0,
        damaged,
        _difference_hash(samples[0].tiny) + _difference_hash(mean),
    )


def _laplacian_variance(grey: np.ndarray) -> float:
    """The variance of the Laplacian of grey values (H, W): large for sharp edges."""
    middle = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle).var())


def _grid(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Means of grey values (H, W) over the cells of a grid, (rows, columns)."""
    down = np.linspace(0, grey.shape[0], rows + 1).astype(int)
    right = np.linspace(0, grey.shape[1], columns + 1).astype(int)
    total = np.pad(grey.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    low, high = np.minimum(down[:-1], grey.shape[0] - 1), np.maximum(down[1:], np.minimum(down[:-1], len(grey) - 1) + 1)
    left = np.minimum(right[:-1], grey.shape[1] - 1)
    end = np.maximum(right[1:], left + 1)
    part = total[high][:, end] - total[low][:, end] - total[high][:, left] + total[low][:, left]
    return (part / ((high - low)[:, None] * (end - left))).astype(np.float32)


def _difference_hash(tiny: np.ndarray) -> str:
    """The difference hash (dHash) of grey values (8, 9): whether each is darker than its right neighbour, in hexadecimal."""
    return np.packbits(tiny[:, :-1] < tiny[:, 1:]).tobytes().hex()
