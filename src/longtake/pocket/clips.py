"""An endless series of pocket clips, each fixed by its number alone."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

from longtake.pocket import stories
from longtake.pocket.clip import Clip, Scene, make_clip
from longtake.pocket.control import DRIVES
from longtake.pocket.facts import Facts


@dataclass(frozen=True)
class Source:
    """A series of numbered pocket clips.

    frames: of each clip, 1 + 4 k. seed: number of the first clip. switch: share of the clips whose facts change once. drive: a key of `pocket.control.DRIVES`, or "" for none. stories: a
    file of `pocket.stories`; each clip then starts with one frame of a prompt and changes to the next prompt, which is its
    caption. sha256: the file's hash, filled in. Raises ValueError if these exclude each other.
    """

    frames: int = 121
    switch: float = 0.3
    seed: int = 0
    drive: str = ""
    stories: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.drive and (self.drive not in DRIVES or self.switch):
            raise ValueError(
                f"drive = {self.drive!r} with switch = {self.switch} is not possible: "
                f"choose {' or '.join(DRIVES)}, with switch = 0.0"
            )
        if self.stories and (self.drive or self.switch):
            raise ValueError("clips of stories change by their prompts alone: set switch = 0.0, and no drive")
        if self.stories and not self.sha256:
            object.__setattr__(self, "sha256", stories.digest(self.stories))

    def clip(self, number: int) -> Clip:
        """Return clip `number`, always the same."""
        rng = random.Random(f"pocket {self.seed + number}")
        if self.stories:
            found = stories.transitions(self.stories, self.sha256)
            return transition_clip(rng, *found[number % len(found)])
        return make_clip(rng, self.frames, self.switch, self.drive)

    def facts(self) -> dict[str, Any]:
        """Return the fields for JSON. Of those after the first three, unused ones are left out, so old files compare equal."""
        return {name: value for name, value in asdict(self).items() if value or name in ("frames", "switch", "seed")}


def transition_clip(rng: random.Random, before: Facts, after: Facts) -> Clip:
    """Return a clip that starts with one frame of a prompt and changes to the next prompt."""
    scenes = (Scene(before),) if before == after else (Scene(before), Scene(after, 1))
    return Clip(scenes, rng.randrange(1 << 30))
