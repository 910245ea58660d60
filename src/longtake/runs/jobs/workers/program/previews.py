"""Previews of a job while it is generated: a strip of small images in its folder, drawn only while somebody watches."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

from longtake.models.model import Model
from longtake.pipelines.call.preview import PreviewStrip, strip_of


class Previews:
    """Draws the previews of a video, at most twice a second. file: the .png that each of them replaces."""

    def __init__(self, model: Model, file: Path):
        self._strip: PreviewStrip | None = strip_of(model, file)

    def on_event(self, event: Any, watched_until: float) -> None:
        """Draw a step if somebody watches. watched_until: by `time.monotonic`. A failure ends the previews, not the video."""
        if self._strip is None or time.monotonic() >= watched_until:
            return
        try:
            self._strip.see(event)
        except (OSError, ValueError, RuntimeError):
            self._strip = None
            traceback.print_exc()
