"""Where a video goes: the run directory and the finished file that an --output names, and the way back from the file."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from longtake.core.errors import SettingsError
from longtake.core.platform import cache_folder, problem_of_name
from longtake.media.finished.file_kinds import ANIMATIONS, CONTAINERS
from longtake.runs.files.durable import TEMPORARY
from longtake.runs.files.layout import Layout

WRITABLE = CONTAINERS + ANIMATIONS
OTHER_VIDEOS = (".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".mts", ".m2ts", ".3gp", ".apng", ".m3u8")
RUN = ".run"  # suffix of the run directory beside a finished file


@dataclass(frozen=True)
class Target:
    """Where a video goes. folder: its run directory. file: the finished file, None for video.mp4 in that folder alone."""

    folder: Path
    file: Path | None = None

    @property
    def video(self) -> Path:
        """The path that the user will watch."""
        return self.file or Layout(self.folder).video

    def named(self, suffix: str, keep: bool = True) -> Target:
        """Return a target of the same kind with another name: `suffix` behind its own."""
        if self.file is None:
            return Target(self.folder.with_name(self.folder.name + suffix))
        return _beside(self.file.with_stem(self.file.stem + suffix), keep)


def target_of(output: Path, keep: bool = True, as_file: bool = False) -> Target:
    """Return the target that a path names: the name of a video is a file, every other name, and an existing folder, a folder.

    keep: whether the run directory lies beside the file, else in the cache. as_file: a folder's name stands for the .mp4
    file of that name. SettingsError for a video that cannot be written.
    """
    if problem := problem_of_name(output):
        raise SettingsError(problem)
    suffix = output.suffix.lower()
    if suffix in WRITABLE and not output.is_dir():
        return _beside(output, keep)
    if suffix in OTHER_VIDEOS and not output.is_dir():
        raise SettingsError(f"{output}: {suffix} files cannot be written, but {', '.join(WRITABLE)} can")
    if not output.name or output.name == "..":
        raise SettingsError(
            f"--output {output} has no name of its own: name a file, such as out/video.mp4, or a folder"
        )
    if os.path.lexists(output) and not output.is_dir():
        raise SettingsError(f"{output} is neither a folder nor the name of a video: name a video file or a folder")
    return _beside(output.with_name(f"{output.name}.mp4"), keep) if as_file else Target(output)


def run_folder(path: Path) -> Path:
    """Return the run directory that a path stands for: itself, or that of the finished file or the video.mp4 that it names."""
    if path == Layout(path.parent).video and Layout(path.parent).manifest.exists():
        return path.parent
    if path.is_dir() or path.suffix.lower() not in WRITABLE:
        return path
    return next((folder for folder in _folders(path) if Layout(folder).manifest.exists()), path)


def expect_run(path: Path) -> Path:
    """Return the run directory of a path as `run_folder` does. SettingsError for a file whose run is not there."""
    folder = run_folder(path)
    if folder == path and path.suffix.lower() in WRITABLE and not path.is_dir():
        beside = path.with_suffix(RUN)
        if any(Layout(folder).output.exists() for folder in _folders(path)):
            raise SettingsError(
                f"the run of {path} is finished, and --no-keep removed it: generate it again with the same command"
            )
        raise SettingsError(f"there is no run of {path} (looked for {beside}): give the run directory itself")
    beside = path.with_name(path.name + RUN) if path.name else path
    if not os.path.lexists(path) and Layout(beside).manifest.exists():
        raise SettingsError(f"there is no {path}: {beside} is a run directory")
    return folder


def video_to_extend(path: Path) -> Path:
    """Return the video file that stands for a path: that of a run directory, and of a run whose file is an animation."""
    folder = run_folder(path)
    video = Layout(folder).video
    small = path.suffix.lower() in (".gif", ".webp") or not path.exists()
    return video if folder.is_dir() and video.exists() and (folder == path or small) else path


def _beside(file: Path, keep: bool) -> Target:
    return Target(_folders(file)[0 if keep else 1], file)


def _folders(file: Path) -> tuple[Path, Path]:
    """Return the run directories that a finished file may have: beside it, and in the cache."""
    whole = hashlib.sha256(os.path.abspath(file.with_suffix("")).encode()).hexdigest()[:12]
    return file.with_suffix(RUN), cache_folder() / "runs" / f"{file.stem}-{whole}"


def is_other_folder(path: Path) -> bool:
    """Whether a path is a folder that holds other files than those of a run, such as one for all videos."""
    if not path.is_dir():
        return False
    layout = Layout(path)
    if layout.manifest.exists() or layout.journal.exists() or layout.output.exists():
        return False
    known = {one.name for one in (*layout.named_files, layout.media, layout.snapshots, layout.inputs)}
    return any(name not in known and not name.endswith(TEMPORARY) for name in os.listdir(path))
