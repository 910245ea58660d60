"""The sound of a video that is continued: copied or encoded again into a track of its own, which a joined video then holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from longtake.core.process.notices import notice

COPIED = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")  # codecs that MP4 holds and players know
BIT_RATE = 192_000  # of AAC
EXACT = {"fflags": "+bitexact"}


Way = Callable[[InputContainer, OutputContainer, Fraction, Fraction], int]


@dataclass(frozen=True)
class Tracks:
    """What a video file holds beside its first video stream. sound: sound tracks. subtitles: subtitle tracks."""

    sound: int = 0
    subtitles: int = 0


def tracks_of(path: Path) -> Tracks:
    """Return the tracks of a video file; none if it cannot be opened."""
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            return Tracks(len(container.streams.audio), len(container.streams.subtitles))
    except (av.error.FFmpegError, OSError):
        return Tracks()


def write_sound(video: Path, seconds: Fraction, path: Path) -> bool:
    """Write the first `seconds` of the sound of a video file as MP4, counted from the first frame; False if it has none.

    The packets are copied if MP4 holds their codec, else encoded as AAC. A sound that cannot be read is left out, and a
    notice says so.
    """
    try:
        with av.open(f"file:{video}", metadata_errors="replace") as source:
            if not source.streams.audio or not source.streams.video:
                return False
            copied = source.streams.audio[0].codec_context.name in COPIED
        return (copied and _written(video, seconds, path, _copy)) or _written(video, seconds, path, _encode)
    except (av.error.FFmpegError, ValueError) as error:
        notice(f"the sound of {video.name} cannot be read, so the video is silent: {error}")
        return False


def _written(video: Path, seconds: Fraction, path: Path, how: Way) -> bool:
    """Write the track by one of the two ways; False if it cannot be copied, or holds nothing."""
    try:
        with (
            av.open(f"file:{video}", metadata_errors="replace") as source,
            av.open(f"file:{path}", "w", format="mp4", options=EXACT) as track,
        ):
            first = source.streams.video[0]
            start = Fraction(first.start_time or 0) * Fraction(first.time_base or 1)
            return how(source, track, start, seconds) > 0
    except (av.error.FFmpegError, ValueError):
        if how is _copy:
            return False
        raise


def _copy(source: InputContainer, track: OutputContainer, start: Fraction, seconds: Fraction) -> int:
    stream = source.streams.audio[0]
    out, count = track.add_stream_from_template(stream), 0
    for packet in source.demux(stream):
        if packet.pts is None or packet.dts is None:
            continue
        shift = round(start / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if (packet.pts + (packet.duration or 0)) * packet.time_base <= 0 and start:
            continue  # before the first frame
        if packet.pts * packet.time_base >= seconds:
            break
        packet.stream, count = out, count + 1
        track.mux(packet)
    return count


def _encode(source: InputContainer, track: OutputContainer, start: Fraction, seconds: Fraction) -> int:
    stream = source.streams.audio[0]
    rate = stream.rate if stream.rate in (32000, 44100, 48000) else 48000
    layout = "mono" if stream.codec_context.channels == 1 else "stereo"
    out, count = track.add_stream("aac", rate=rate, options={"flags": "+bitexact"}), 0
    out.codec_context.layout, out.codec_context.bit_rate = layout, BIT_RATE
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    for frame in chain(source.decode(stream), [None]):
        for piece in resampler.resample(frame):
            time = (piece.pts or 0) * Fraction(piece.time_base or 1) - start
            if time + Fraction(piece.samples, rate) <= 0 or time >= seconds:
                continue
            piece.pts, piece.time_base, count = round(time * rate), Fraction(1, rate), count + 1
            track.mux(out.encode(piece))
    track.mux(out.encode(None))
    return count


def time_of(packet: av.Packet) -> Fraction:
    """Return the second at which a packet is decoded."""
    return Fraction(packet.dts or 0) * Fraction(packet.time_base or 1)


class SoundTrack:
    """A track of `write_sound` while it is muxed into a video, packet by packet; for a `with` statement."""

    def __init__(self, path: Path):
        self._source = av.open(f"file:{path}")
        self._stream = self._source.streams.audio[0]
        self._packets = (packet for packet in self._source.demux(self._stream) if packet.dts is not None)
        self._next = next(self._packets, None)
        self._out: AudioStream | None = None

    def __enter__(self) -> SoundTrack:
        return self

    def __exit__(self, *problem: object) -> None:
        self._source.close()

    def join(self, container: OutputContainer) -> None:
        """Add the track to a container, before its first packet."""
        self._out = container.add_stream_from_template(self._stream)

    def until(self, seconds: Fraction | None) -> Iterator[av.Packet]:
        """Yield the packets up to a time (None: all that are left), ready to be muxed."""
        while self._next is not None and (seconds is None or time_of(self._next) <= seconds):
            assert self._out is not None
            self._next.stream = self._out
            yield self._next
            self._next = next(self._packets, None)
