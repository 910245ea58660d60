"""Answers of plug-ins about shots, stored on disk so that a slow network is asked only once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.data.captions.captioners import CaptionerError
from longtake.media.video_reader import VideoError
from longtake.runs.files.durable import write_file


@dataclass(frozen=True)
class AnswerCache:
    """Answers in a folder, one JSON file each."""

    folder: Path

    def get(self, plug_in: str, shot: tuple[str, int, int], ask: Callable[[], Any]) -> Any:
        """Return the stored answer of a plug-in about a shot, or ask and store it.

        plug_in: its name and version. shot: (SHA-256 of the file, start, stop). Raises CaptionerError if asking fails.
        """
        name = hashlib.sha256(" ".join(map(str, (plug_in, *shot))).encode()).hexdigest()
        path = self.folder / name[:2] / f"{name}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            pass
        try:
            answer = ask()
        except (VideoError, CaptionerError):
            raise
        except Exception as error:  # a plug-in may raise anything
            raise CaptionerError(f"{plug_in} failed: {type(error).__name__}: {error}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, [json.dumps(answer).encode()])
        return answer
