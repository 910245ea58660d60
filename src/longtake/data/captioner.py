"""Captioners: plug-ins that say what a shot shows.

A captioner is a function of a `Glimpse` that gives a Caption, a sentence, or None. It is named by an entry point of the
group `longtake.captioners`, or as `module:function`. If the object so named is a class, it is made once, without
arguments, so a network is loaded once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from longtake.data.caption import Caption, tidy
from longtake.data.video import Video, long_side

T = TypeVar("T")

GROUP = "longtake.captioners"
FRAMES, SIDE = 8, 512  # pictures of a shot that a captioner sees, and the pixels of their longer side


class CaptionerError(ValueError):
    """A captioner that cannot be found, or that gave something that is no caption."""


@dataclass(frozen=True)
class Glimpse:
    """What a captioner is shown of a shot: its file, its place there in seconds, and pictures of it."""

    file: Path
    begins: float
    seconds: float
    fps: float
    stamps: Sequence[int] = ()

    @cached_property
    def frames(self) -> np.ndarray:
        """Pictures (N H W 3) uint8, evenly spaced, the longer side at most 512 pixels. They are read when asked for."""
        with Video(self.file) as video:
            return np.stack(list(video.at(evenly(self.stamps, FRAMES), long_side(SIDE))))


def evenly(things: Sequence[T], most: int) -> list[T]:
    """At most so many of them, each from the middle of an equal share."""
    count = min(most, len(things))
    return [things[(2 * n + 1) * len(things) // (2 * count)] for n in range(count)]


Captioner = Callable[[Glimpse], Caption | str | None]


def silent(glimpse: Glimpse) -> None:
    """Says nothing."""


def filename(glimpse: Glimpse) -> str:
    """The name of the file as words: "red_car-02.mp4" says "red car"."""
    return tidy(re.sub(r"[\d_\W]+", " ", glimpse.file.stem))


BUILT_IN: Mapping[str, Captioner] = {"none": silent, "filename": filename}


def find(name: str) -> Captioner:
    """A captioner by its name. CaptionerError says what there is."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    found = plug_in(name) if ":" in name else next((e.load() for e in entry_points(group=GROUP, name=name)), None)
    if found is None:
        have = [*BUILT_IN, *sorted(e.name for e in entry_points(group=GROUP))]
        raise CaptionerError(f"no captioner is called {name!r}: there are {', '.join(have)}, or give module:function")
    return found() if isinstance(found, type) else found


def plug_in(name: str) -> Any:
    """What `module:function` names; modules of the working directory are found too. CaptionerError if it is not there."""
    module, _, function = name.partition(":")
    sys.path.append("")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise CaptionerError(f"{name} cannot be used: {error}") from error
    finally:
        sys.path.remove("")


def ask(captioner: Captioner, glimpse: Glimpse) -> Caption:
    """What a captioner says. CaptionerError says what went wrong in it."""
    try:
        said = captioner(glimpse)
    except Exception as error:  # a plug-in may raise anything; the shot is named in the report, the others go on
        raise CaptionerError(f"the captioner failed: {type(error).__name__}: {error}") from error
    if said is None:
        return Caption()
    if isinstance(said, str):
        return Caption(text=tidy(said))
    if not isinstance(said, Caption):
        raise CaptionerError(f"the captioner gave a {type(said).__name__}: it must give a Caption, a sentence or None")
    return said
