"""Writing a finished video file: H.264, HEVC or AV1 with sound, or an animated GIF or WebP."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from longtake.core.errors import MediaError, SettingsError
from longtake.core.platform import delete_file, problem_of_name, replace_file
from longtake.media.finished.file_kinds import ANIMATIONS, DEFAULT_CRF, WEB, Codec, check_file, codec_of
from longtake.media.finished.sound_encoder import SoundEncoder, sound_seconds
from longtake.media.metadata import COMMENT, MUXER_OPTIONS, check_comment, image_comment
from longtake.media.scaling import EXACT

ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
QUIET = {"hevc": {"x265-params": "log-level=error"}, "av1": {}, "h264": {}}
FASTSTART = {"movflags": "faststart"}
OPTIONS = {".mkv": {}, WEB: {}, **MUXER_OPTIONS}  # of the muxers that need others than FASTSTART
MOST_FPS = 1000


def file_path(path: Any) -> Path:
    """Return the path of a file to write. SettingsError if it is no path."""
    if not isinstance(path, str | Path):
        raise SettingsError(f"the video is saved to the path of a file, such as video.mp4, not {path!r}")
    if problem := problem_of_name(Path(path)):
        raise SettingsError(problem)
    return Path(path)


def save_video(
    path: Path | str, frames: Iterable[np.ndarray], fps: float, *, codec: Codec = "h264", crf: int | None = None,
    audio: Path | str | None = None, comment: str = "",
) -> Path:  # fmt: skip
    """Write frames, uint8 (H, W, 3), as a video file of the kind that the file's ending names; return its path.

    codec: of a .webm file av1, also where h264 is asked for. crf: constant quality, 0 is best (None: 18 for h264, 22 for
    hevc, 28 for av1). audio: a file whose sound plays beside the frames, cut to their length. comment: text that the file
    carries, which is read back. Raises SettingsError for an
    ending, codec or crf that cannot be, MediaError for no frames.
    """
    path = file_path(path)
    if isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < fps <= MOST_FPS:
        raise SettingsError(f"fps must be a positive number up to {MOST_FPS}, not {fps!r}")
    check_file(path, codec, crf, sound=audio is not None)
    if audio is not None:
        sound_seconds(Path(audio))
    codec = codec_of(path, codec)
    if path.suffix.lower() in ANIMATIONS:
        return _animation(path, frames, fps, comment)
    quality = DEFAULT_CRF[codec] if crf is None else crf
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("SVT_LOG", "1")  # of the AV1 encoder: errors alone
    rate = Fraction(fps).limit_denominator(1001)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        with av.open(f"file:{part}", "w", options=OPTIONS.get(path.suffix.lower(), FASTSTART)) as container:
            if comment:
                container.metadata[COMMENT] = comment
            _write(container, iter(frames), rate, codec, quality, audio)
        if comment:
            check_comment(part, comment)
        replace_file(part, path)
    except av.error.FFmpegError as error:
        raise MediaError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        delete_file(part)
    return path


def _write(container: Any, frames: Any, rate: Fraction, codec: Codec, crf: int, audio: Path | str | None) -> None:
    first = next(frames, None)
    if first is None:
        raise MediaError("there are no frames to write")
    height, width = first.shape[:2]
    stream = container.add_stream(ENCODERS[codec], rate=rate, options={"crf": str(crf), **QUIET[codec]})
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv444p" if (height % 2 or width % 2) and codec != "av1" else "yuv420p"
    context = stream.codec_context
    context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
    context.color_trc, context.color_primaries = ColorTrc.BT709, ColorPrimaries.BT709
    sound = None if audio is None else SoundEncoder(container, Path(audio))
    scaler, number = VideoReformatter(), 0
    frame: np.ndarray | None = first
    while frame is not None:
        picture = scaler.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"), format=stream.pix_fmt,
            src_colorspace=Colorspace.ITU709, dst_colorspace=Colorspace.ITU709, src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG, interpolation=EXACT,
        )  # fmt: skip
        picture.pts, picture.time_base = number, 1 / rate
        container.mux(stream.encode(picture))
        number += 1
        frame = next(frames, None)
    container.mux(stream.encode(None))
    if sound is not None:
        sound.write(Fraction(number) / rate)


def _animation(path: Path, frames: Iterable[np.ndarray], fps: float, comment: str) -> Path:
    from PIL import Image

    images = [Image.fromarray(np.asarray(frame)) for frame in frames]
    if not images:
        raise MediaError("there are no frames to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    noted = image_comment(path.suffix.lower(), comment) if comment else {}
    images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, **noted)
    if comment:
        check_comment(path, comment)
    return path
