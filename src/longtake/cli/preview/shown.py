"""The preview of a run: its steps as a file or as pictures in the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from longtake.cli.preview.pictures import KINDS, TERMINAL, Draw, kind_of
from longtake.cli.preview.region import Region
from longtake.core.process.notices import notice
from longtake.engine.events import StepDone, WindowStarted
from longtake.models.model import Model
from longtake.pipelines.call.preview import EVERY, PreviewStrip, write_preview

if TYPE_CHECKING:
    from PIL.Image import Image


def pictures(asked: str | None, console: Console) -> Draw | None:
    """Return what draws the previews in the terminal; None if they go into a file, or there is none to draw in."""
    if asked == TERMINAL and not console.is_terminal:
        notice("standard output is no terminal, so there is no preview: name a file, such as --preview preview.png")
        return None
    return KINDS[kind_of(os.environ)] if asked == TERMINAL else KINDS.get(asked or "")


class ShownPreview:
    """Shows the steps of a run, as --preview asks for. One that fails is given up with a notice: it never stops the video.

    asked: what --preview says, or None. draw: see `pictures`. line: describes how far the run is, below the picture.
    """

    def __init__(self, asked: str | None, draw: Draw | None, model: Model, console: Console, line: Callable[[], str]):
        self.asked, self.line = asked, line
        self.region = None if draw is None else Region(console, draw)
        wanted = draw is not None or asked not in (None, TERMINAL)
        self.strip = PreviewStrip(model, self._target, EVERY) if wanted else None

    def _target(self, image: Image, step: StepDone) -> None:
        if self.region is None:
            write_preview(Path(str(self.asked)), image)
        else:
            self.region.show(image, self.line())

    def see(self, event: Any) -> None:
        """Follow the events of a run, after they were shown."""
        if isinstance(event, StepDone | WindowStarted):
            self._try(lambda strip: strip.see(event))

    def finish(self) -> None:
        """Write the last step into the file; let what is printed from now on come below a picture."""
        if self.region is None:
            self._try(PreviewStrip.finish)

    def _try(self, action: Callable[[PreviewStrip], None]) -> None:
        if self.strip is None:
            return
        try:
            action(self.strip)
        except (OSError, ValueError, RuntimeError) as error:
            self.strip = None
            notice(f"the preview {self.asked} was given up ({error}); the video goes on without it")
