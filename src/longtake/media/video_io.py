"""Video files: encode segments of fragmented MP4, and join them to one MP4.

A segment is encoded on its own, at its absolute timestamp, so that encoding it again gives the same bytes: one thread, one
closed GOP, no B-frames, a bit-exact scaler and muxer, and neither dates nor paths in the file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from torch import Tensor

from longtake.core.errors import MediaError
from longtake.media.metadata import COMMENT
from longtake.media.scaling import EXACT
from longtake.media.sound import SoundTrack, time_of

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
FRAGMENT = {
    "movflags": "empty_moov+default_base_moof+frag_keyframe+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",  # without it every segment silently moves to time 0, and only the first one plays
    "fflags": "+bitexact",
}
FASTSTART = {"movflags": "faststart", "fflags": "+bitexact"}


@dataclass(frozen=True)
class Encoding:
    """H.264 settings. crf: constant quality, 0 (lossless) to 51. preset: of x264, trades time for size."""

    crf: int = 18
    preset: str = "veryfast"

    def __post_init__(self):
        if not 0 <= self.crf <= 51:
            raise MediaError(f"crf must be between 0 (lossless) and 51, not {self.crf}")
        if self.preset not in PRESETS:
            raise MediaError(f"unknown x264 preset {self.preset!r}: choose from {', '.join(PRESETS)}")


@dataclass(frozen=True)
class Encoded:
    """An encoded segment. init: the boxes ftyp and moov, equal for all segments of a video. media: the boxes moof and mdat."""

    init: bytes
    media: bytes


def encode(frames: Tensor, first: int, fps: Fraction, number: int = 0, encoding: Encoding = Encoding()) -> Encoded:
    """Encode frames (T, H, W, 3) uint8 as segment `number` of a video.

    first: number of the first frame, which gives its timestamp first / fps. Even sizes are stored as 4:2:0, which every
    player shows; odd sizes as 4:4:4, which keeps the exact size. Raises MediaError if the encoder fails.
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
    """Options for one closed GOP, and for the same decisions on every processor."""
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
    """The offset of the first moof box; the init part lies before it."""
    at = 0
    while at + 8 <= len(data):
        if data[at + 4 : at + 8] == b"moof":
            return at
        at += max(8, int.from_bytes(data[at : at + 4], "big"))
    raise MediaError("the muxer wrote no fragment: give a segment at least one frame")


def join(
    init: bytes, segments: Iterable[bytes], path: Path, sound: Path | None = None, comment: str = ""
) -> None:  # fmt: skip
    """Join segments to one MP4 that plays while it loads, without encoding again; one segment is in memory at a time.

    sound: a track that `write_sound` wrote. comment: text that the file carries. Equal segments give an equal file. Raises OSError if the file cannot be
    written, MediaError if a segment cannot be read.
    """
    try:
        with ExitStack() as stack:
            joined = stack.enter_context(av.open(f"file:{path}", "w", format="mp4", options=FASTSTART))
            if comment:
                joined.metadata[COMMENT] = comment
            track = stack.enter_context(SoundTrack(sound)) if sound else None
            _join(init, segments, joined, path.name, track)
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise MediaError(f"{path.name} cannot be joined: {error}") from error


def _join(
    init: bytes, segments: Iterable[bytes], joined: OutputContainer, name: str, track: SoundTrack | None
) -> None:  # fmt: skip
    out = None
    for media in segments:
        with av.open(io.BytesIO(init + media), "r", format="mp4") as part:
            stream = part.streams.video[0]
            if out is None:
                out = joined.add_stream_from_template(stream)
                if track:
                    track.join(joined)
            packets = [packet for packet in part.demux(stream) if packet.dts is not None]
        if not packets:
            raise MediaError(f"{name} cannot be joined: a segment holds no frames")
        for packet in packets:
            if track:
                joined.mux(list(track.until(time_of(packet))))
            packet.stream = out
            joined.mux(packet)
    if track:
        joined.mux(list(track.until(None)))
