"""Finds the videos that the rows of a table name, in any of the ways that people write paths."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from longtake.data.captions.caption import CaptionError


class VideoNames:
    """Finds the video that a row names: by its path in the folder, else by its file name if only one video has it.

    folder: of the videos. start: the folder of the table, from which a relative path may lead to a video too.
    """

    def __init__(self, videos: Iterable[str], folder: Path | None = None, start: Path | None = None):
        self.folder = None if folder is None else folder.resolve()
        self.starts = [one for one in (self.folder, start, Path.cwd()) if one is not None]
        self.paths = {_plain(video): video for video in videos}
        self.names: dict[str, list[str]] = {}
        for video in videos:
            self.names.setdefault(_plain(PurePosixPath(video).name), []).append(video)

    def find(self, file: str) -> str | None:
        """Return the video, or None. Raises CaptionError if several have that file name."""
        path = _plain(file)
        for found in (path, *self._inside(path)):
            if found in self.paths:
                return self.paths[found]
        same = self.names.get(path, [])
        if len(same) > 1:
            raise CaptionError(f"several videos have the file name {file}: write the folder too, as in {same[0]}")
        return same[0] if same else None

    def _inside(self, path: str) -> Iterator[str]:
        """The path relative to the folder of the videos, from wherever it leads into that."""
        if self.folder is None:
            return
        for start in self.starts:
            with suppress(ValueError, OSError):  # it leads elsewhere, or is no path
                yield _plain((start / path).resolve().relative_to(self.folder).as_posix())


def _plain(path: str) -> str:
    """A path with forward slashes and composed letters (NFC)."""
    return unicodedata.normalize("NFC", path.replace("\\", "/").removeprefix("./"))
