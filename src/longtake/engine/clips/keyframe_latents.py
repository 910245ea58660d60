"""Encoded keyframes: the clean latents that a window takes from input images and clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from longtake.planning.keyframes import Keyframe
from longtake.planning.window import LatentSource

END, ANCHOR, SOURCE = -1, -2, -3  # draws of the noise that samples the posterior of these inputs


@dataclass(frozen=True)
class KeyframeLatents:
    """Latents (B C h w) of the keyframes (images and clips at given frames) and of the given last frame."""

    keyframes: Sequence[Sequence[Tensor]] = ()
    end_frame: Sequence[Tensor] = ()

    @staticmethod
    def of(
        keyframes: Sequence[Keyframe],
        end_B3THW: Tensor | None,
        encode: Callable[[Tensor, int, int], list[Tensor]],
        batch: int,
    ) -> KeyframeLatents:
        """Encode keyframes and the last frame, for `batch` videos that share them."""
        shared = lambda *given: [latent.expand(batch, -1, -1, -1) for latent in encode(*given)]
        end = [] if end_B3THW is None else shared(end_B3THW, 0, END)
        return KeyframeLatents([shared(one.frames, one.frame, 1 + i) for i, one in enumerate(keyframes)], end)

    def latent(self, source: LatentSource) -> Tensor:
        """Return the latent of a keyframe or of the last frame."""
        return (
            self.keyframes[source.keyframe][source.latent]
            if source.kind == "keyframe"
            else self.end_frame[source.latent]
        )
