"""Captioners: plug-ins that describe shots.

A captioner is a function of a `ShotView` that returns a Caption, a sentence or None. It is named by an entry point of the
group `longtake.captioners`, or as `module:function`. A class is called once without arguments to create the captioner, so
that a network is loaded only once.
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

from longtake.core.errors import InputError
from longtake.data.captions.caption import Caption, tidy
from longtake.media.video_reader import VideoReader, long_side

T = TypeVar("T")

GROUP = "longtake.captioners"
FRAMES, SIDE = 8, 512  # frames of a shot that a captioner gets, and the pixels of their longer side


class CaptionerError(InputError):
    """A captioner that cannot be found, that failed, or that returned something other than a caption."""


@dataclass(frozen=True)
class ShotView:
    """A shot as a captioner gets it. start, seconds: its place and length in the file, in seconds. fps: of the shot.

    stamps: the timestamps of its frames, in ticks.
    """

    file: Path
    start: float
    seconds: float
    fps: float
    stamps: Sequence[int] = ()

    @cached_property
    def frames(self) -> np.ndarray:
        """Evenly spaced frames (N, H, W, 3) uint8, the longer side at most 512 pixels; read at the first use."""
        with VideoReader(self.file) as video:
            return np.stack(list(video.at(evenly_spaced(self.stamps, FRAMES), long_side(SIDE))))


def evenly_spaced(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of the items, each from the middle of an equal share."""
    count = min(most, len(items))
    return [items[(2 * n + 1) * len(items) // (2 * count)] for n in range(count)]


Captioner = Callable[[ShotView], Caption | str | None]


def no_caption(shot: ShotView) -> None:
    """Return no caption."""


def file_name(shot: ShotView) -> str:
    """Return the words in the file name: "red_car-02.mp4" gives "red car"."""
    return tidy(re.sub(r"[\d_\W]+", " ", shot.file.stem))


BUILT_IN: Mapping[str, Captioner] = {"none": no_caption, "filename": file_name}


def find_captioner(name: str) -> Captioner:
    """Return the captioner with a name. Raises CaptionerError that lists the names there are."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    found = load_plug_in(name) if ":" in name else _installed(name)
    if found is None:
        have = [*BUILT_IN, *sorted(e.name for e in entry_points(group=GROUP))]
        raise CaptionerError(f"unknown captioner {name!r}: choose from {', '.join(have)}, or give module:function")
    return found() if isinstance(found, type) else found


def _installed(name: str) -> Any:
    """Import the captioner of an installed package; None if there is none. Raises CaptionerError if it is broken."""
    point = next(iter(entry_points(group=GROUP, name=name)), None)
    try:
        return None if point is None else point.load()
    except Exception as error:  # a plug-in may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise CaptionerError(f"the captioner {name!r} cannot be imported ({reason}): mend its package") from error


def load_plug_in(name: str) -> Any:
    """Import what `module:function` names, also from the working directory. Raises CaptionerError if that fails."""
    module, _, function = name.partition(":")
    sys.path.append("")
    try:
        return getattr(import_module(module), function)
    except Exception as error:  # a plug-in may raise anything
        raise CaptionerError(
            f"{name} cannot be imported ({type(error).__name__}: {error}): mend its package"
        ) from error
    finally:
        sys.path.remove("")


def describe_shot(captioner: Captioner, shot: ShotView) -> Caption:
    """Run a captioner on a shot. Raises CaptionerError if it fails or returns something other than a caption."""
    try:
        result = captioner(shot)
    except Exception as error:  # a plug-in may raise anything; the report names the shot, and the others continue
        raise CaptionerError(f"the captioner failed: {type(error).__name__}: {error}") from error
    if result is None:
        return Caption()
    if isinstance(result, str):
        return Caption(text=tidy(result))
    if not isinstance(result, Caption):
        raise CaptionerError(
            f"the captioner returned a {type(result).__name__}: it must return a Caption, a sentence or None"
        )
    return result
