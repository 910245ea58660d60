"""Delivering: a finished video as the file that was asked for, beside its run directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

from longtake.core.platform import delete_file
from longtake.core.process.notices import notice
from longtake.media.finished.copy_video import copy_video
from longtake.media.finished.file_kinds import ANIMATIONS, codec_of
from longtake.media.finished.save_video import save_video
from longtake.media.metadata import COMMENT, read_tags
from longtake.media.sound import tracks_of
from longtake.media.video_reader import timed_frames
from longtake.runs.events import Event, FileWritten, PublishedVideo, RunFinished
from longtake.runs.files import durable, output_record
from longtake.runs.files.errors import explained
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import manifest_of
from longtake.runs.files.output_record import FinishedFile, OutputRecord, is_own_file, seen_from


def delivered(events: Generator[Event], folder: Path) -> Generator[Event]:
    """Yield the events of a run; before the last one the finished file is written, and `FileWritten` says so."""
    with closing(events):
        for event in events:
            if isinstance(event, RunFinished) and (file := deliver(folder, event.published)) is not None:
                yield file
            yield event


def deliver(folder: Path, published: PublishedVideo) -> FileWritten | None:
    """Write the finished file that output.json of a run names, from its video.mp4; None if it names none.

    A file of that name that is none of this run's is never replaced: the next free name is taken, and a notice says so.
    """
    record = output_record.load(folder)
    path = None if record is None else record.finished.path(folder)
    if record is None or path is None:
        return None
    own = is_own_file(folder, record)
    if not own or record.source != published.sha256:  # an endless run may have been longer ago
        if os.path.lexists(path) and not (own or record.finished.replace):
            taken, path = path, _free(path)
            notice(f"{taken} is another file by now, and it stays: the video is {path}")
        with explained(folder, f"writing {path}"):
            record = _write(folder, replace(record, source=published.sha256), published.video, path)
    return FileWritten(_shown(folder, path), path.stat().st_size, record.written, record.finished.keep)


def shown_file(folder: Path, record: OutputRecord) -> Path | None:
    """Return the path of the finished file of a run as people read it; None if there is none."""
    path = record.finished.path(folder)
    return None if path is None else _shown(folder, path)


def _shown(folder: Path, path: Path) -> Path:
    """Return the path of a file as people read it: one of a run in the cache, seen from the working folder if it is there."""
    here = Path.cwd()
    return path.relative_to(here) if path.parent != folder.parent and path.is_relative_to(here) else path


def encodes_again(finished: FinishedFile) -> bool:
    """Whether the finished file is encoded from the frames of video.mp4, instead of holding its H.264."""
    path = Path(finished.file or "")
    return finished.file is not None and (codec_of(path, finished.codec) != "h264" or path.suffix.lower() in ANIMATIONS)


def discard(folder: Path) -> None:
    """Remove all of a finished run but output.json, if it was asked not to be kept."""
    record = output_record.load(folder)
    if record is None or record.finished.keep or not record.written:
        return
    layout = Layout(folder)
    for path in (layout.media, layout.snapshots, layout.inputs):
        shutil.rmtree(path, ignore_errors=True)
    for path in layout.named_files:
        if path != layout.output:
            delete_file(path)


def _write(folder: Path, record: OutputRecord, video: Path, path: Path) -> OutputRecord:
    """Write the finished file, whose digest is in output.json before it has its name; return the new record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    finished = replace(record.finished, file=seen_from(folder, path))
    try:
        _make(video, part, finished)
        digest = durable.file_digest(part)
        assert digest is not None
        record = replace(record, finished=finished, written=digest.sha256)
        output_record.save(folder, record)
        durable.move(part, path)
    finally:
        delete_file(part)
    if finished.replace:
        output_record.save(folder, replace(record, finished=replace(finished, replace=False)))
    return record


def _make(video: Path, path: Path, finished: FinishedFile) -> None:
    audio = None if finished.audio is None else Path(finished.audio)
    if encodes_again(finished):
        _encode(video, path, finished, audio)
    elif audio is None and path.suffix.lower() in (".mp4", ".m4v"):
        _link(video, path)
    else:
        copy_video(video, path, audio)


def _encode(video: Path, path: Path, finished: FinishedFile, audio: Path | None) -> None:
    fps = float(manifest_of(video.parent).fps)
    frames = (frame.numpy() for _, frame in timed_frames(video))
    comment = read_tags(video).get(COMMENT, "")
    own = video if path.suffix.lower() not in ANIMATIONS and tracks_of(video).sound else None
    save_video(path, frames, fps, codec=finished.codec, crf=finished.crf, audio=audio or own, comment=comment)  # type: ignore[arg-type]


def _link(video: Path, path: Path) -> None:
    """Give a file a second name, or copy it where the file system has no second names."""
    delete_file(path)
    try:
        os.link(video, path)
    except OSError:
        shutil.copyfile(video, path)


def _free(path: Path) -> Path:
    """Return the first of `x-2.mp4`, `x-3.mp4`, ... that does not exist."""
    return next(other for n in count(2) if not os.path.lexists(other := path.with_stem(f"{path.stem}-{n}")))
