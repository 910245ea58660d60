"""Changes of scene: the event that announces one, and the distance between two prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from longtake.planning.script import Scene, Script
from longtake.planning.window import Window

Transition = Literal["keep", "cut", "anchor", "resample"]
TRANSITIONS: dict[str, str] = {
    "keep": "the shot continues",
    "cut": "a new shot, without context frames",
    "anchor": "a new shot from the first frame of the last one",
    "resample": "a new shot from the first frame of the last one, re-sampled under the new prompt",
}


@dataclass(frozen=True)
class SceneChanged:
    """From output frame `frame` on, window `index` follows another scene.

    transition: the shot continues ("keep"), or a new shot starts from nothing ("cut"), with the anchor ("anchor") or with
    the anchor re-sampled ("resample"). distance: between the two prompts, 1 - cosine.
    """

    index: int
    frame: int
    prompt: str
    transition: Transition
    distance: float


class PromptDistance:
    """Distances between prompts, each measured once. embed(prompt) -> token embeddings (L, D)."""

    def __init__(self, embed: Callable[[str], Tensor]):
        self.embed = embed
        self._known: dict[tuple[str, str], float] = {}

    def __call__(self, a: str, b: str) -> float:
        """Measure 1 - cosine of the summed token embeddings; 0 where a text encoder ignores its prompts."""
        if (a, b) not in self._known:
            one, two = (self.embed(prompt).double().sum(0).cpu() for prompt in (a, b))
            size = float(one.norm() * two.norm())
            self._known[a, b] = 1 - float(one @ two) / size if size else 0.0
        return self._known[a, b]


def scenes_of(window: Window, script: Script, frames: Sequence[int]) -> list[tuple[int, Scene]]:
    """List the scenes that a window follows, each with the first of these output frames at which it does."""
    scenes = [(frame, script.at(frame)) for frame in frames]
    if window.text == "window":
        return scenes[:1]
    return [pair for i, pair in enumerate(scenes) if i == 0 or pair[1] != scenes[i - 1][1]]
