"""Control signals (speech, a pose, an envelope), sliced for every window.

A signal has a row for every output frame of the whole video, so a clip that repeats the end of the clip before it gets
the rows of the frames that it repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.finite import non_finite_rows
from longtake.core.geometry import first_frame
from longtake.models.model import Model


@dataclass(frozen=True)
class ControlSignal:
    """Numbers that the model is conditioned on: values (T, D), a row per output frame from the start of the video.

    after: what follows the last row, "hold" (that row again) or "silence" (zeros). scale: guidance scale of the signal; 1
    needs no extra model calls.
    """

    values: Tensor
    after: str = "hold"
    scale: float = 1.0

    def __post_init__(self):
        if self.values.ndim != 2 or not len(self.values):
            raise PlanError(
                f"a control signal is a table of numbers with a row per frame, not of shape {tuple(self.values.shape)}"
            )
        if bad := non_finite_rows(self.values):
            raise PlanError(f"row {bad[0]} (from 0) of the control signal holds NaN or infinity: give finite numbers")
        if self.after not in ("hold", "silence"):
            raise PlanError(f"`after` must be 'hold' or 'silence', not {self.after!r}")

    def check(self, model: Model) -> None:
        """Raise PlanError if the signal's width differs from what the model expects."""
        if self.values.shape[1] != model.features.control_width:
            takes = (
                f"expects {model.features.control_width}" if model.features.control_width else "takes no control signal"
            )
            raise PlanError(
                f"the control signal has {self.values.shape[1]} numbers per frame, but {model.name} {takes}"
            )

    def rows(self, frames: Sequence[int]) -> Tensor:
        """Pick the rows of output frames (N, D); frames before the start get the first row."""
        at = torch.tensor(frames).clamp_min(0)
        found = self.values[at.clamp_max(len(self.values) - 1)]
        if self.after == "silence":
            found = torch.where((at < len(self.values))[:, None], found, torch.zeros_like(found))
        return found

    def of_latents(self, latents: Sequence[int], clip_first: int, temporal_compression: int) -> Tensor:
        """Pick the rows (F, temporal_compression, D) of latent frames of a clip whose first output frame is clip_first.

        Latent 0 of a clip holds one frame, whose row is repeated, as in a causal VAE.
        """
        frames: list[int] = []
        for latent in latents:
            first = clip_first + first_frame(latent, temporal_compression)
            more = range(first, first + temporal_compression)
            frames += [first] * temporal_compression if latent == 0 else more
        return self.rows(frames).unflatten(0, (len(latents), temporal_compression))
