"""Frames to and from video files: segments of fragmented MP4, their union as one MP4, and reading back.

A segment is encoded on its own, at its absolute place in time, so that it can be made again and gives the same bytes:
one thread, one closed group of pictures, no B-frames, a bit-exact scaler and muxer, and no dates or paths inside.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from torch import Tensor

from longtake.scaling import EXACT

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
FRAGMENT = {
    "movflags": "empty_moov+default_base_moof+frag_keyframe+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",  # else every segment is silently moved to time 0, and only the first one plays
    "fflags": "+bitexact",
}
FASTSTART = {"movflags": "faststart", "fflags": "+bitexact"}


class MediaError(RuntimeError):
    """A video that cannot be written or read; the message says why."""


@dataclass(frozen=True)
class Encoding:
    """H.264 settings. crf: constant quality, 0 (lossless) to 51; preset: x264's trade of time for size."""

    crf: int = 18
    preset: str = "veryfast"

    def __post_init__(self):
        if not 0 <= self.crf <= 51:
            raise MediaError(f"crf must lie between 0 (lossless) and 51, not {self.crf}")
        if self.preset not in PRESETS:
            raise MediaError(f"no x264 preset is called {self.preset!r}: there are {', '.join(PRESETS)}")


@dataclass(frozen=True)
class Encoded:
    """One segment. init: ftyp and moov, the same for every segment of a video; media: moof and mdat."""

    init: bytes
    media: bytes


def encode(frames: Tensor, first: int, fps: Fraction, number: int = 0, encoding: Encoding = Encoding()) -> Encoded:
    """Frames (T H W 3) uint8, numbered from `first`, as segment `number` of a video. Errors: MediaError.

    Even sizes are stored as 4:2:0, which every player shows; odd ones as 4:4:4, which keeps the exact size.
    """
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4", options=FRAGMENT | {"fragment_index": str(number + 1)}) as container:
            _write(container, frames, first, fps, encoding)
    except av.error.FFmpegError as error:
        raise MediaError(f"the H.264 encoder failed at frame {first}: {error}") from error
    data = buffer.getvalue()
    cut = _moof(data)
    return Encoded(data[:cut], data[cut:])


def _write(container, frames: Tensor, first: int, fps: Fraction, encoding: Encoding) -> None:
    height, width = frames.shape[1:3]
    stream = container.add_stream("libx264", rate=fps, options=_x264(encoding))
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    stream.time_base = stream.codec_context.time_base = 1 / fps
    context = stream.codec_context
    context.thread_count = 1
    context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
    context.color_trc, context.color_primaries = ColorTrc.BT709, ColorPrimaries.BT709
    scaler = VideoReformatter()
    for number, frame in enumerate(frames, first):
        picture = scaler.reformat(
            av.VideoFrame.from_ndarray(frame.contiguous().numpy(), format="rgb24"),
            format=stream.pix_fmt,
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT,
            threads=1,
        )
        picture.pts, picture.time_base = number, 1 / fps
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def _x264(encoding: Encoding) -> dict[str, str]:
    """One closed group of pictures, and the same choices on every processor."""
    return {
        "crf": str(encoding.crf),
        "preset": encoding.preset,
        "threads": "1",
        "bf": "0",
        "g": str(10**6),
        "sc_threshold": "0",
        "flags": "+cgop",
        "x264-params": "cpu-independent=1",
    }


def _moof(data: bytes) -> int:
    """Where the first moof box begins: what comes before is the init part."""
    at = 0
    while at + 8 <= len(data):
        if data[at + 4 : at + 8] == b"moof":
            return at
        at += max(8, int.from_bytes(data[at : at + 4], "big"))
    raise MediaError("the muxer wrote no fragment: a segment needs at least one frame")


def join(init: bytes, segments: Iterable[bytes], path: Path) -> None:
    """Segments in order, without encoding again, as one MP4 that plays while it loads. One segment is in memory at a time.

    Equal segments give an equal file. Errors: OSError if it cannot be written, MediaError if a segment cannot be read.
    """
    try:
        with av.open(f"file:{path}", "w", format="mp4", options=FASTSTART) as joined:
            out = None
            for media in segments:
                with av.open(io.BytesIO(init + media), "r", format="mp4") as part:
                    stream = part.streams.video[0]
                    out = out or joined.add_stream_from_template(stream)
                    packets = [packet for packet in part.demux(stream) if packet.dts is not None]
                if not packets:
                    raise MediaError(f"{path.name} cannot be put together: a segment holds no frames")
                for packet in packets:
                    packet.stream = out
                    joined.mux(packet)
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise MediaError(f"{path.name} cannot be put together: {error}") from error


def read(source: Path | bytes) -> Iterator[tuple[Fraction, Tensor]]:
    """The frames of a video: the second at which each is shown, and its picture (H W 3) uint8, upright. Errors: MediaError."""
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}", "r") as container:
            scaler = VideoReformatter()
            for frame in container.decode(video=0):
                matrix = Colorspace.DEFAULT if frame.colorspace != Colorspace.ITU709 else Colorspace.ITU709
                picture = scaler.reformat(
                    frame, format="rgb24", src_colorspace=matrix, dst_colorspace=matrix, interpolation=EXACT, threads=1
                )
                pixels = torch.from_numpy(picture.to_ndarray())
                upright = torch.rot90(pixels, round(frame.rotation / 90)).contiguous() if frame.rotation else pixels
                yield (frame.pts or 0) * Fraction(frame.time_base or 1), upright
    except (av.error.FFmpegError, IndexError) as error:
        name = "the video" if isinstance(source, bytes) else source
        raise MediaError(f"{name} cannot be read as a video: {error}") from error
