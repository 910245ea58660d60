"""The look that all windows of a shot (or of a scene) share: the statistics of the first one, which later ones take on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from longtake.grade import matched, statistics
from longtake.plan import Window


@dataclass
class Look:
    """statistics: see `grade.statistics`, (2, B, C); prompt: of the window that they are of."""

    statistics: Tensor | None = None
    prompt: str = ""

    def graded(self, x_BCFHW: Tensor, window: Window, prompt: str) -> Tensor:
        """What a window made, graded as its plan says; the first of its kind is only looked at.

        Guides do not count, nor do frames whose new version is not used.
        """
        if window.grade is None:
            return x_BCFHW
        made = [role != "guide" for role in window.role]
        if window.blend is not None:
            made = [new and weight > 0 for new, weight in zip(made, window.blend.tolist())]
        if self.statistics is None or (window.grade.per == "scene" and prompt != self.prompt):
            self.statistics, self.prompt = statistics(x_BCFHW[:, :, made]), prompt
            return x_BCFHW
        x = x_BCFHW.clone()
        x[:, :, made] = matched(x[:, :, made], self.statistics, window.grade.share)
        return x

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything, as tensors and facts."""
        return ({} if self.statistics is None else {"statistics": self.statistics}), {"prompt": self.prompt}

    @staticmethod
    def restored(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Look:
        """Undo `state`."""
        return Look(tensors.get("statistics"), facts.get("prompt", ""))
