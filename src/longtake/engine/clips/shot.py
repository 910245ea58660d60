"""One shot: its anchor, its first frame and the statistics that AdaIN matches. A new shot is a new object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from longtake.core.latent_stats import matched, statistics
from longtake.engine.state import merged, present, restore, within
from longtake.planning.shots import ShotStart
from longtake.planning.window import Window


@dataclass
class AdainReference:
    """AdaIN across windows: later windows are normalised to the latent statistics of the first window of the shot or scene.

    statistics: mean and standard deviation (2, B, C). prompt: of the window that they were measured on.
    """

    statistics: Tensor | None = None
    prompt: str = ""

    def applied(self, x_BCFHW: Tensor, window: Window, prompt: str) -> Tensor:
        """Normalise what a window generated, as its plan says; the first window of its kind is only measured.

        Keyframes do not count, nor do frames whose new version is not used.
        """
        if window.adain is None:
            return x_BCFHW
        counts = [role != "keyframe" for role in window.role]
        if window.blend is not None:
            counts = [new and weight > 0 for new, weight in zip(counts, window.blend.tolist())]
        if self.statistics is None or (window.adain.per == "scene" and prompt != self.prompt):
            self.statistics, self.prompt = statistics(x_BCFHW[:, :, counts]), prompt
            return x_BCFHW
        x = x_BCFHW.clone()
        x[:, :, counts] = matched(x[:, :, counts], self.statistics, window.adain.share)
        return x

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the statistics and their prompt."""
        return present(statistics=self.statistics), {"prompt": self.prompt}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        self.statistics, self.prompt = tensors.get("statistics"), facts["prompt"]


@dataclass
class Shot:
    """What all clips of a shot share.

    anchors: the first latent (B C h w) of the shot, by the number of the stage. first_frame: its first output frame
    (B 3 1 H W), for a model that is conditioned on pixels.
    """

    anchors: dict[int, Tensor] = field(default_factory=dict)
    first_frame: Tensor | None = None
    adain: AdainReference = field(default_factory=AdainReference)

    def next(self, start: ShotStart) -> Shot:
        """Return the shot that follows: a new one, or this one where the next starts with its anchor."""
        return Shot() if start == "new" else self

    def remember(self, stage: int, final: Mapping[int, Tensor]) -> None:
        """Keep the first latent of the shot, if it is among the latents {frame: (B C h w)} that a stage finished."""
        if stage not in self.anchors and 0 in final:
            self.anchors[stage] = final[0].clone()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the anchors, the first frame and the AdaIN reference."""
        tensors, facts = merged(adain=self.adain)
        anchors = {f"anchor.{stage}": anchor for stage, anchor in self.anchors.items()}
        return tensors | anchors | present(first_frame=self.first_frame), facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        restore(tensors, facts, adain=self.adain)
        self.first_frame = tensors.get("first_frame")
        self.anchors = {int(stage): anchor for stage, anchor in within("anchor", tensors).items()}
