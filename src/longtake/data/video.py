"""Frames of any video file, counted exactly, upright and with square pixels, one at a time.

A frame is known by its stamp, its time in ticks of the stream's time base. Stamps survive seeking, so a shot read from
the middle of a film is the same pictures as one met while reading from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from longtake.scaling import EXACT

Fit = Callable[[int, int], tuple[int, int]]  # (height, width) of the upright picture -> (height, width) wanted
HDR = (16, 18)  # transfer characteristics of PQ and HLG
BT709, UNSAID = 1, 2  # colour spaces, as H.273 numbers them
STEP_BACK = 2  # seconds before a shot to seek to, when its own key frame came out too late; doubled each time


class VideoError(ValueError):
    """A video that cannot be read; the message says where and why."""


@dataclass(frozen=True)
class Stream:
    """What a file says of its first video stream. size: (height, width), upright and square.

    frames, seconds: how many it has, and how long it lasts, 0 if not said.
    base: seconds per tick of its stamps. timed: whether its frames have times of their own.
    """

    size: tuple[int, int]
    base: Fraction
    rate: Fraction
    frames: int
    seconds: float
    codec: str
    hdr: bool
    timed: bool


@dataclass(frozen=True)
class Frame:
    """A picture (H W 3) uint8, its number from the start of the file and its stamp. damaged: the decoder says so."""

    number: int
    stamp: int
    picture: np.ndarray
    damaged: bool = False


class Video:
    """An open video file; use it in a `with`. stream: what it says of itself. Errors: VideoError."""

    def __init__(self, path: Path, threads: int = 1):
        self.path, self.threads = path, threads
        self._scaler = VideoReformatter()
        self._open()
        self._head: av.VideoFrame | None = next(self._decoded(), None)
        if self._head is None:
            self._container.close()
            raise VideoError("it holds no frames")
        self._turn = round(self._head.rotation / 90) % 4
        self.stream = self._describe(self._head)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *problem: object) -> None:
        self._container.close()

    def frames(self, fit: Fit | None = None, exact: bool = False) -> Iterator[Frame]:
        """All frames from the first on. VideoError if one cannot be read, or if times go back.

        exact: scale for training (bicubic) rather than for measuring (a quick average).
        """
        last = None
        for number, frame in enumerate(self._all()):
            stamp = self._stamp(frame, number)
            if last is not None and stamp <= last:
                raise VideoError(f"time goes back at frame {number}: make a clean copy with `ffmpeg -i IN -c copy OUT`")
            last = stamp
            yield Frame(number, stamp, self._picture(frame, fit, exact), bool(frame.is_corrupt))

    def at(self, stamps: Sequence[int], fit: Fit | None = None, exact: bool = True) -> Iterator[np.ndarray]:
        """The pictures (H W 3) at rising stamps. VideoError if one is not there: the file is not what it was."""
        wanted = iter(stamps)
        stamp = next(wanted, None)
        for number, frame in enumerate(self._from(stamps[0])):
            now = self._stamp(frame, number)
            if stamp is None or now > stamp:
                break
            if now == stamp:
                yield self._picture(frame, fit, exact)
                stamp = next(wanted, None)
        if stamp is not None:
            raise VideoError(f"it has no frame at tick {stamp} any more: prepare the folder again")

    def _open(self) -> None:
        try:
            self._container = av.open(f"file:{self.path}", "r")
            self._source = self._container.streams.video[0]
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"it cannot be opened as a video: {_words(error)}") from error
        except IndexError:
            self._container.close()
            raise VideoError("it holds no video stream") from None
        self._source.codec_context.thread_count = self.threads

    def _describe(self, frame: av.VideoFrame) -> Stream:
        source = self._source
        rate = Fraction(source.average_rate or source.guessed_rate or 25)
        size = (frame.height, max(1, round(frame.width * (source.sample_aspect_ratio or 1))))
        return Stream(
            size[::-1] if self._turn % 2 else size, Fraction(source.time_base or 1 / rate), rate, source.frames,
            (self._container.duration or 0) / av.time_base, source.codec_context.name, int(frame.color_trc) in HDR,
            frame.pts is not None,
        )  # fmt: skip

    def _all(self) -> Iterator[av.VideoFrame]:
        """Every frame of the file."""
        if self._head is None:
            self._container.close()
            self._open()
            yield from self._decoded()
        else:
            head, self._head = self._head, None
            yield head
            yield from self._decoded(1)

    def _from(self, stamp: int) -> Iterator[av.VideoFrame]:
        """Frames from at most `stamp` on: from the key frame before it, or from further back if that came too late."""
        back, start = 0, self._source.start_time or 0
        while self.stream.timed and (target := stamp - int(back / self.stream.base)) > start:
            self._head = None
            try:
                self._container.seek(target, stream=self._source)
            except av.error.FFmpegError:
                break
            frames = self._decoded()
            if (first := next(frames, None)) and first.pts is not None and first.pts <= stamp:
                yield first
                yield from frames
                return
            back = 2 * back or STEP_BACK
        yield from self._all()

    def _decoded(self, number: int = 0) -> Iterator[av.VideoFrame]:
        try:
            for frame in self._container.decode(self._source):
                yield frame
                number += 1
        except av.error.FFmpegError as error:
            raise VideoError(f"it breaks after {number} frames: {_words(error)}") from error

    def _stamp(self, frame: av.VideoFrame, number: int) -> int:
        """The stamp of a frame; of a stream without times, what its number is at its rate."""
        if not self.stream.timed:
            return round(number / self.stream.rate / self.stream.base)
        if frame.pts is None:
            raise VideoError(f"frame {number} has no time: make a clean copy with `ffmpeg -i IN -c copy OUT`")
        return frame.pts

    def _picture(self, frame: av.VideoFrame, fit: Fit | None, exact: bool) -> np.ndarray:
        height, width = fit(*self.stream.size) if fit else self.stream.size
        if self._turn % 2:
            height, width = width, height
        matrix = Colorspace.ITU709 if _is_709(frame) else Colorspace.DEFAULT
        picture = self._scaler.reformat(
            frame, width=width, height=height, format="rgb24", src_colorspace=matrix, dst_colorspace=matrix,
            interpolation=EXACT if exact else Interpolation.AREA, threads=1,
        )  # fmt: skip
        return np.ascontiguousarray(np.rot90(picture.to_ndarray(), self._turn))


def _is_709(frame: av.VideoFrame) -> bool:
    """Whether its colours are BT.709: as the file says, else as players guess, by its height."""
    return int(frame.colorspace) == BT709 or (int(frame.colorspace) == UNSAID and frame.height >= 720)


def short_side(most: int) -> Fit:
    """A picture whose shorter side is at most `most`; never enlarged."""

    def fit(height: int, width: int) -> tuple[int, int]:
        share = min(1.0, most / min(height, width))
        return max(2, round(height * share)), max(2, round(width * share))

    return fit


def long_side(most: int) -> Fit:
    """A picture whose longer side is at most `most`; never enlarged."""

    def fit(height: int, width: int) -> tuple[int, int]:
        share = min(1.0, most / max(height, width))
        return max(2, round(height * share)), max(2, round(width * share))

    return fit


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".").lower()
