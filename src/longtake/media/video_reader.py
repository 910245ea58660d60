"""Frames of any video file, counted exactly, upright, with square pixels, in BT.709 and deinterlaced, one at a time.

A frame is identified by its timestamp, in ticks of the time base of the stream. Timestamps survive seeking, so a shot that
is read from the middle of a film has the same frames as one that is read from the start.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from torch import Tensor

from longtake.core.errors import InputError
from longtake.core.files import problem_of
from longtake.media import unreadable
from longtake.media.decoding import colour
from longtake.media.decoding.deinterlace import deinterlaced
from longtake.media.decoding.orientation import Orientation, orientation_of
from longtake.media.scaling import EXACT

Fit = Callable[[int, int], tuple[int, int]]  # (height, width) of the upright frame -> (height, width) to return
MOST_PIXELS = 1 << 27  # of a frame; a larger size is an error of the header, or an attack on the memory
TRUNCATED = 0.02  # share of the frames, or seconds, that the header states and that may be missing
STEP_BACK = 2  # seconds to seek further back when a seek ended behind the frame; doubled each time


class VideoError(InputError):
    """A video file that cannot be read; the message says at which frame and why."""


@dataclass(frozen=True)
class StreamInfo:
    """The header of a file's first video stream. size: (height, width), upright, with square pixels.

    base: seconds per tick of a timestamp. rate: frames per second. frames, seconds: number of frames and duration as the
    header states them, 0 if it does not. hdr: PQ or HLG. timed: whether the frames have timestamps. changes: what the reader
    does to the frames, such as "deinterlaces it", in phrases.
    """

    size: tuple[int, int]
    base: Fraction
    rate: Fraction
    frames: int
    seconds: float
    codec: str
    hdr: bool
    timed: bool
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """A frame (H, W, 3) uint8, its number from the start of the file and its timestamp. damaged: reported by the decoder."""

    number: int
    stamp: int
    picture: np.ndarray
    damaged: bool = False


class VideoReader:
    """An open video, for a `with` statement. stream: its header. Raises VideoError if it cannot be read.

    source: a file, or its contents. threads: of the decoder (0: as many as it likes), which never change a frame.
    """

    def __init__(self, source: Path | bytes, threads: int = 1):
        self.source, self.threads = source, threads
        self._scaler = VideoReformatter()
        self._interlaced = False
        self._open()
        self._unread: Iterator[av.VideoFrame] | None = self._decoded()
        head = next(self._unread, None)
        if head is None:
            self._container.close()
            raise VideoError("the file holds no frames")
        self._unread = chain([head], self._unread)
        if code := colour.unreadable_colour(head):
            self._container.close()
            raise VideoError(
                f"{code} cannot be read: convert it with `ffmpeg -i IN -vf format=yuv420p -c:v libx264 OUT.mp4`"
            )
        self._orientation: Orientation = orientation_of(head)
        self._interlaced = bool(head.interlaced_frame)
        self.stream = self._describe(head)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *problem: object) -> None:
        self._container.close()

    def frames(self, fit: Fit | None = None, exact: bool = False) -> Iterator[Frame]:
        """Yield all frames. Raises VideoError if one cannot be read, or if timestamps go back.

        fit: the size to scale to. exact: scale by bicubic interpolation, for training; else by a quick area average.
        """
        last, number = None, -1
        for number, frame in enumerate(self._all()):
            stamp = self._stamp(frame, number)
            if last is not None and stamp <= last:
                raise VideoError(
                    f"timestamps go back at frame {number}: make a clean copy with `ffmpeg -i IN -c copy OUT`"
                )
            last = stamp
            yield Frame(number, stamp, self._picture(frame, fit, exact), bool(frame.is_corrupt))
        self._refuse_truncated(number + 1, last)

    def at(self, stamps: Sequence[int], fit: Fit | None = None, exact: bool = True) -> Iterator[np.ndarray]:
        """Yield the frames (H, W, 3) at rising timestamps. Raises VideoError if the file has none at one of them."""
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
            raise VideoError(f"the file has no frame at timestamp {stamp} any more: prepare the folder again")

    def _open(self) -> None:
        if isinstance(self.source, Path) and (problem := problem_of(self.source)):
            raise VideoError(f"the file cannot be opened as a video: {problem}")
        try:
            opened = io.BytesIO(self.source) if isinstance(self.source, bytes) else f"file:{self.source}"
            self._container = av.open(opened, "r", metadata_errors="replace")
            self._video = self._container.streams.video[0]
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"the file cannot be opened as a video: {self._why(error)}") from error
        except IndexError:
            self._container.close()
            raise VideoError("the file holds no video stream") from None
        self._video.codec_context.thread_count = self.threads
        self._video.codec_context.options = {"max_pixels": str(MOST_PIXELS)}

    def _describe(self, frame: av.VideoFrame) -> StreamInfo:
        source, aspect = self._video, Fraction(self._video.sample_aspect_ratio or 1)
        rate = Fraction(source.average_rate or source.guessed_rate or 25)
        size = (frame.height, max(1, round(frame.width * aspect)))
        if max(size[0] * size[1], frame.width * frame.height) > MOST_PIXELS:
            self._container.close()
            raise VideoError(
                f"its frames are {size[1]} x {size[0]} pixels, more than {MOST_PIXELS:,}: scale it down first"
            )
        changes = (
            f"makes its pixels square (they are {aspect.numerator}:{aspect.denominator})" if aspect != 1 else "",
            "deinterlaces it" if self._interlaced else "", colour.colour_change(frame),
        )  # fmt: skip
        return StreamInfo(
            self._orientation.size(*size), Fraction(source.time_base or 1 / rate), rate, source.frames,
            (self._container.duration or 0) / av.time_base, source.codec_context.name,
            int(frame.color_trc) in colour.HDR, frame.pts is not None, tuple(filter(None, changes)),
        )  # fmt: skip

    def _all(self) -> Iterator[av.VideoFrame]:
        """Every frame of the file, from the first on."""
        frames, self._unread = self._unread, None
        if frames is None:
            self._container.close()
            self._open()
            frames = self._decoded()
        yield from self._progressive(frames)

    def _from(self, stamp: int) -> Iterator[av.VideoFrame]:
        """Frames from `stamp` or earlier on: from the keyframe before it, or from further back if the seek ended behind it."""
        back, start = 0, self._video.start_time or 0
        while self.stream.timed and (target := stamp - int(back / self.stream.base)) > start:
            self._unread = None
            try:
                self._container.seek(target, stream=self._video)
            except av.error.FFmpegError:
                break
            frames = self._decoded()
            least = stamp - (1 if self._interlaced else 0)  # a deinterlaced frame needs the one before it
            if (first := next(frames, None)) and first.pts is not None and first.pts <= least:
                yield from self._progressive(chain([first], frames))
                return
            back = 2 * back or STEP_BACK
        yield from self._all()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        number = 0
        try:
            for frame in self._container.decode(self._video):
                yield frame
                number += 1
        except av.error.FFmpegError as error:
            why = self._why(error)
            raise VideoError(f"the file breaks off after {number} frames: {why}" if number else why) from error

    def _progressive(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        return deinterlaced(frames, self._video) if self._interlaced else frames

    def _stamp(self, frame: av.VideoFrame, number: int) -> int:
        """The timestamp of a frame; for a stream without timestamps, from its number and the frame rate."""
        if not self.stream.timed:
            return round(number / self.stream.rate / self.stream.base)
        if frame.pts is None:
            raise VideoError(f"frame {number} has no timestamp: make a clean copy with `ffmpeg -i IN -c copy OUT`")
        return round(frame.pts * Fraction(frame.time_base or self.stream.base) / self.stream.base)

    def _picture(self, frame: av.VideoFrame, fit: Fit | None, exact: bool) -> np.ndarray:
        size = self._orientation.size(*(fit(*self.stream.size) if fit else self.stream.size))
        try:
            picture = colour.rgb(frame, self._scaler, size, EXACT if exact else Interpolation.AREA)
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"frames of the format {frame.format.name} cannot be read: {_words(error)}") from error
        return self._orientation.apply(picture)

    def _refuse_truncated(self, count: int, last: int | None) -> None:
        """Raise VideoError for a file with fewer frames than its header states: a download or a copy that broke off.

        Frames that an edit list hides are counted by the header, so the last timestamp must fall short too.
        """
        stated, stream = self._video.duration, self.stream
        if last is None or count >= stream.frames * (1 - TRUNCATED) - 1:
            return
        if stated and last + 2 / (stream.rate * stream.base) >= (self._video.start_time or 0) + stated * (
            1 - TRUNCATED
        ):
            return
        raise VideoError(
            f"the file is truncated: its header states {stream.frames} frames, and {count} can be read; copy it again, or "
            "keep those with `ffmpeg -i IN -c copy OUT`"
        )

    def _why(self, error: Exception) -> str:
        """Why the file cannot be read: from its first bytes, else in the words of FFmpeg."""
        return (unreadable.reason(self.source) if isinstance(self.source, Path) else "") or _words(error)


def timed_frames(source: Path | bytes) -> Iterator[tuple[Fraction, Tensor]]:
    """Yield all frames (H, W, 3) uint8 of a video, each with the second at which it is shown. VideoError names the file."""
    try:
        with VideoReader(source, threads=0 if isinstance(source, Path) else 1) as video:
            for frame in video.frames(exact=True):
                yield frame.stamp * video.stream.base, torch.from_numpy(frame.picture)
    except VideoError as error:
        name = "the video" if isinstance(source, bytes) else source
        raise VideoError(f"{name} cannot be read as a video: {error}") from error


def short_side(most: int) -> Fit:
    """Return a Fit that limits the shorter side to `most` pixels and never enlarges."""

    def fit(height: int, width: int) -> tuple[int, int]:
        share = min(1.0, most / min(height, width))
        return max(2, round(height * share)), max(2, round(width * share))

    return fit


def long_side(most: int) -> Fit:
    """Return a Fit that limits the longer side to `most` pixels and never enlarges."""

    def fit(height: int, width: int) -> tuple[int, int]:
        share = min(1.0, most / max(height, width))
        return max(2, round(height * share)), max(2, round(width * share))

    return fit


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".").lower()
