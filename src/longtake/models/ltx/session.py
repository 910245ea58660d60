"""One rollout's use of an LTX network: cached text keys and values, and positions within the trained range."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from longtake.core.guidance_settings import Perturb
from longtake.models.interfaces import Conditioning, ContextFrames
from longtake.models.ltx.block import TextKV
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.runtime.step_cache import CachingSession, SessionCache, first_row, step_columns
from longtake.planning.window import Window


class LTXSession(CachingSession):
    """A `Session`: all frames in view attend to each other at every step, so only texts are cached."""

    def __init__(self, net: LTXTransformer):
        self.net = net
        self.row = 0  # of the window, at the last call
        self.texts: dict[str, TextKV] = {}

    @torch.no_grad()
    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Read the prompts of a window. Raises PlanError if it reaches past the positions of the network."""
        self.net.config.frames(window.positions, cond.fps)
        self.window, self.row = window, 0
        if self.cache is not None:
            self.cache.begin(window)
        self.texts = {text.key: self.texts.get(text.key) or self.net.text_kv(text.embedding) for text in cond.texts}
        self.inputs = dict(
            text=[self.texts[text.key] for text in cond.texts],
            positions=window.positions,
            scene=cond.scene,
            fps=cond.fps,
        )

    def __call__(self, x: Tensor, sigma: Tensor, perturb: Perturb | None = None) -> Tensor:
        """Return the velocity of x at sigma, with those of perturbed videos appended."""
        if self.cache is not None:
            return self._cached(self.cache, x, sigma, perturb).to(x.dtype)
        return self.net(x, sigma, **self.inputs, perturb=perturb).to(x.dtype)

    def _cached(self, cache: SessionCache, x: Tensor, sigma: Tensor, perturb: Perturb | None) -> Tensor:
        """Return the velocity from the residual of an earlier call where the cache allows it, else from the blocks."""
        self.row, moving = step_columns(self.window, sigma, self.row)
        embedding = self.net.timestep_embedding(first_row(sigma)[moving], cache.calibration.projected)
        columns = range(x.shape[2])
        if cache.can_skip(self.row, moving, embedding, layout=(len(x), perturb)):
            return self.net.forward_cached(x, sigma, cache.residual(columns), perturb)
        residuals: list[Tensor] = []
        velocity = self.net(x, sigma, **self.inputs, perturb=perturb, residuals=residuals)
        cache.store(columns, residuals[0])
        return velocity

    def finish(self, window: Window, x: Tensor) -> None:
        """Do nothing: no frames are remembered."""

    def state(self) -> dict[str, Tensor]:
        """Return no tensors: texts are read again."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore nothing."""
