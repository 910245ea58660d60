"""What drives the clips of a prepared folder: a table or a sound beside each video, cut to the frames of its clips.

A table has a row of numbers for every frame of the video's file; of a sound, how loud each frame is is taken, as in
`longtake.track`. A clip is told the rows of its own frames, however many of the video's it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from longtake import track
from longtake.plan import PlanError
from longtake.train.buckets import Clip
from longtake.train.config import ConfigError

OWN = "sound"  # the video's own, in place of a file beside it


def file_of(video: Path, kind: str) -> Path:
    """The file that drives a video; kind: its suffix, or OWN."""
    return video if kind == OWN else video.with_suffix(kind)


def check_kind(kind: str) -> None:
    """ValueError unless this is a kind of track."""
    if kind and kind != OWN and not (kind.startswith(".") and len(kind) > 1):
        raise ValueError(f'track is {kind!r}: it is the suffix of a file beside each video, such as ".csv", or "{OWN}"')


def driven(folder: Path, clips: Sequence[Clip], kind: str, fps: float, report: Callable[[str], None]) -> list[Clip]:
    """The clips of videos that something drives. ConfigError if there are none, or their tracks are no tracks of one kind."""
    there = {video: file_of(folder / video, kind).is_file() for video in {clip.kept.video for clip in clips}}
    found = [clip for clip in clips if there[clip.kept.video]]
    if without := sorted(video for video, beside in there.items() if not beside):
        report(f"{len(without)} videos have no {kind} beside them, such as {without[0]}: their clips are left out")
    if not found:
        raise ConfigError(f"[footage] no video has a {kind} beside it: give a track to each, or leave `track` out")
    widths = {rows(folder, clip, kind, fps).shape[1]: clip.kept.video for clip in found}
    if len(widths) > 1:
        told = ", ".join(f"{width} in that of {video}" for width, video in sorted(widths.items()))
        raise ConfigError(f"[footage] tracks have as many numbers for a frame, but there are {told}")
    return found


def rows(folder: Path, clip: Clip, kind: str, fps: float) -> Tensor:
    """What drives the frames of a clip (T, D). fps: of the clip. ConfigError names a track that does not suit its video."""
    shot, path = clip.kept.shot, file_of(folder / clip.kept.video, kind)
    values, table = _read(path, fps, path.stat().st_mtime_ns), path.suffix.lower() == ".csv"
    if table:
        numbers = dict(zip(shot.stamps, range(shot.start, shot.stop)))
        at = [numbers[stamp] for stamp in clip.stamps]
        if at[-1] >= len(values):
            raise ConfigError(f"{path} has {len(values)} rows, but its video has more frames: give a row for each")
        return values[at]
    seconds = torch.tensor([float(stamp * Fraction(shot.base)) for stamp in clip.stamps], dtype=torch.float64)
    silent = torch.cat([values, torch.zeros_like(values[:1])])  # behind its end
    return silent[(seconds * fps + 1e-6).long().clamp(0, len(values))]


@lru_cache(64)
def _read(path: Path, fps: float, changed: int) -> Tensor:
    try:
        return track.read(path, fps)
    except PlanError as error:
        raise ConfigError(str(error)) from error
