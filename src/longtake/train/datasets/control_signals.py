"""Control signals of a prepared folder: a table or a sound file beside each video, cut to the frames of its clips.

A table has a row of numbers for every frame of the video file; of a sound, the loudness of each frame is used, as in
`longtake.media.control_signal`. A clip gets the rows of its own frames, also where it skips frames of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from longtake.core.errors import ConfigError, InputError
from longtake.media.control_signal import read_control
from longtake.train.datasets.buckets import ShotClip

OWN_SOUND = "sound"  # the sound track of the video itself, in place of a file beside it


def file_of(video: Path, kind: str) -> Path:
    """Return the control file of a video. kind: its suffix, or OWN_SOUND."""
    return video if kind == OWN_SOUND else video.with_suffix(kind)


def check_kind(kind: str) -> None:
    """Raise ValueError unless this is a kind of control signal."""
    if kind and kind != OWN_SOUND and not (kind.startswith(".") and len(kind) > 1):
        raise ValueError(
            f'control is {kind!r}: it is the suffix of a file beside each video, such as ".csv", or "{OWN_SOUND}"'
        )


def with_signal(
    folder: Path, clips: Sequence[ShotClip], kind: str, fps: float, report: Callable[[str], None]
) -> list[ShotClip]:
    """Return the clips of videos that have a control file.

    ConfigError if there are none, or if their signals differ in width.
    """
    has_file = {video: file_of(folder / video, kind).is_file() for video in {clip.kept.video for clip in clips}}
    found = [clip for clip in clips if has_file[clip.kept.video]]
    if without := sorted(video for video, there in has_file.items() if not there):
        report(f"{len(without)} videos have no {kind} beside them, such as {without[0]}: their clips are left out")
    if not found:
        raise ConfigError(f"[footage] no video has a {kind} beside it: add one to each, or remove `control`")
    widths = {rows(folder, clip, kind, fps).shape[1]: clip.kept.video for clip in found}
    if len(widths) > 1:
        listed = ", ".join(f"{width} in that of {video}" for width, video in sorted(widths.items()))
        raise ConfigError(
            f"[footage] all control signals need the same number of values per frame, but there are {listed}"
        )
    return found


def rows(folder: Path, clip: ShotClip, kind: str, fps: float) -> Tensor:
    """Return the control signal of the frames of a clip (T, D). fps: of the clip.

    ConfigError names a file that does not suit its video.
    """
    shot, path = clip.kept.shot, file_of(folder / clip.kept.video, kind)
    values, table = _read(path, fps, path.stat().st_mtime_ns), path.suffix.lower() == ".csv"
    if table:
        numbers = dict(zip(shot.stamps, range(shot.start, shot.stop)))
        at = [numbers[stamp] for stamp in clip.stamps]
        if at[-1] >= len(values):
            raise ConfigError(f"{path} has {len(values)} rows, but its video has more frames: add a row for each frame")
        return values[at]
    seconds = torch.tensor([float(stamp * Fraction(shot.base)) for stamp in clip.stamps], dtype=torch.float64)
    padded = torch.cat([values, torch.zeros_like(values[:1])])  # silence after the end
    return padded[(seconds * fps + 1e-6).long().clamp(0, len(values))]


@lru_cache(64)
def _read(path: Path, fps: float, changed: int) -> Tensor:
    try:
        return read_control(path, fps)
    except InputError as error:
        raise ConfigError(str(error)) from error
