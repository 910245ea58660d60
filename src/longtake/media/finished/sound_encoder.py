"""The sound of a file, encoded into a video that is being written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from longtake.core.errors import MediaError, SettingsError
from longtake.core.files import problem_of


class SoundEncoder:
    """The sound of a file, encoded as AAC into a container, or as Opus into a WebM file."""

    def __init__(self, container: Any, path: Path):
        self.source = _opened(path)
        codec = "libopus" if container.format.name == "webm" else "aac"
        self.container, self.stream = container, container.add_stream(codec, rate=48000, layout="stereo")

    def write(self, seconds: Fraction) -> None:
        """Encode at most this length."""
        resampler, left, at = av.AudioResampler("fltp", "stereo", 48000), round(seconds * 48000), 0
        with self.source:
            for decoded in self.source.decode(audio=0):
                for piece in resampler.resample(decoded):
                    if left <= 0:
                        break
                    samples = piece.to_ndarray()[:, :left].astype(np.float32)
                    out = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
                    out.sample_rate, out.pts, out.time_base = 48000, at, Fraction(1, 48000)
                    self.container.mux(self.stream.encode(out))
                    at, left = at + samples.shape[1], left - samples.shape[1]
            self.container.mux(self.stream.encode(None))


def sound_seconds(path: Path) -> float | None:
    """Return the length of the sound of a file in seconds; None if the file does not state it.

    SettingsError if there is no such file or it has no sound, MediaError if it cannot be read.
    """
    with _opened(path) as source:
        stream = source.streams.audio[0]
        if stream.duration is None and next(source.decode(audio=0), None) is None:
            raise SettingsError(f"{path} has no sound: its sound track is empty")
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if source.duration is None else source.duration / av.time_base


def _opened(path: Path) -> Any:
    if problem := problem_of(path):
        raise SettingsError(f"there is no sound file at {path} ({problem}): check the path")
    try:
        source = av.open(f"file:{path}", metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise MediaError(f"{path} cannot be read as sound: {error.strerror or error}") from error
    if not source.streams.audio:
        source.close()
        raise SettingsError(f"{path} has no sound")
    return source
