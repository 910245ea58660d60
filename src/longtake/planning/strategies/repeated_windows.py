"""Repeated windows: windows that differ in their frame numbers alone are made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from longtake.planning.window import Window


class RepeatedWindows:
    """A small cache of windows, so that going through the plan of a video of days is cheap."""

    MOST = 64  # windows in the cache; a plan repeats after fewer

    def __init__(self) -> None:
        self.made: dict[Hashable, Window] = {}

    def __call__(self, alike: Hashable, frames: Sequence[int], make: Callable[[], Window]) -> Window:
        """Return the window of these frames. make: gives it, or one that is equal to it as far as `alike` says."""
        if alike not in self.made:
            if len(self.made) == self.MOST:
                self.made.clear()
            self.made[alike] = make()
        made = self.made[alike]
        by = frames[0] - made.frames[0]
        sources = {f + by: s.moved(by) for f, s in made.sources.items()} if by else made.sources
        return replace(made, frames=frames, sources=sources)
