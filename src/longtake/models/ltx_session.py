"""One rollout's use of an LTX network: texts read once, and positions that never leave the window it was trained for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from longtake.guidance import Perturb
from longtake.models.base import Cond, Past
from longtake.models.ltx import LTXTransformer
from longtake.models.ltx_block import TextMemory
from longtake.plan import Window


class LTXSession:
    """A Session. All frames in view attend to each other at every call, so nothing but texts is remembered."""

    def __init__(self, net: LTXTransformer):
        self.net = net
        self.texts: dict[str, TextMemory] = {}

    @torch.no_grad()
    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`. PlanError if the window reaches past the positions of the network."""
        self.net.config.frames(window.positions, cond.fps)
        self.texts = {text.key: self.texts.get(text.key) or self.net.text_memory(text.embedding) for text in cond.texts}
        self.told = dict(
            text=[self.texts[text.key] for text in cond.texts],
            positions=window.positions,
            scene=cond.scene,
            fps=cond.fps,
        )

    def __call__(self, x: Tensor, level: Tensor, perturb: Perturb | None = None) -> Tensor:
        """See `Session`."""
        return self.net(x, level, **self.told, perturb=perturb).to(x.dtype)

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""

    def state(self) -> dict[str, Tensor]:
        """See `Session`: nothing."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
