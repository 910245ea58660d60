"""One resolution of a clip: its latents in flight, the model session that denoises them, and their noise.

A model with a latent upsampler generates every clip in two stages: at low resolution first, then at full size from the
upsampled latents of the first stage, re-noised to a lower sigma. Every strategy whose windows end clean can run so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.solvers import SolverState, SolverStep
from longtake.engine.clips.keyframe_latents import KeyframeLatents
from longtake.engine.clips.latent_buffer import LatentBuffer
from longtake.engine.clips.noise_sampler import NoiseSampler
from longtake.engine.denoise import denoise
from longtake.engine.state import merged, prefixed, restore, within
from longtake.models.interfaces import Conditioning, ContextFrames, Session
from longtake.planning.window import LatentSource, Window


@dataclass
class Stage:
    """The latents of one clip at one resolution. It is the only caller of `denoise`.

    upsample: latents (B C F h w) of the stage before this one to those of this resolution (None: this is the first).
    source: the first latents (B C h w) of the clip in an input video, so many of them, for video to video.
    """

    session: Session
    noise: NoiseSampler
    keyframes: KeyframeLatents = field(default_factory=KeyframeLatents)
    upsample: Callable[[Tensor], Tensor] | None = None
    source: Callable[[int], list[Tensor]] | None = None
    latents: LatentBuffer = field(default_factory=LatentBuffer)

    def run(
        self,
        window: Window,
        cond: Conditioning,
        context: ContextFrames,
        solver: SolverStep,
        lower: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, SolverState | None]]:
        """Denoise a window; yields x (B C F H W) and the solver's state after every step.

        window: with the sigmas of this resolution. context: pixels and anchor; its latents are filled in here. lower: the
        result (B C F h w) of the stage before this one.
        """
        draw = partial(self.noise.draw, window)
        redone = self.latents.clean(window)
        self._put_sources(window, context.anchor)
        old = {f: self.latents.frames[f] for f in redone}  # which `finish` blends with their new version
        if self.upsample is not None:
            assert lower is not None
            self.latents.put(upsampled(window, lower, self.upsample))
        self.session.begin(window, replace(context, latents=self.latents.clean(window)), cond)
        x, solver_state = self.latents.gather(window, draw)
        if self.upsample is not None:
            self.latents.frames |= old
        yield from denoise(
            self.session, x, window, solver, solver_state,
            lambda x, step: self.latents.with_context_noise(x, window, step, draw),
            lambda sigma_next: self.noise.step_noise(window, sigma_next, redone),
        )  # fmt: skip

    def finish(self, window: Window, x: Tensor, solver_state: SolverState | None, ends_clip: bool) -> dict[int, Tensor]:
        """Keep what a window generated; return the latents that are now final, {frame: (B C h w)} in order."""
        with torch.inference_mode():
            self.session.finish(window, x)
        return self.latents.store(window, x, solver_state, ends_clip)

    def _put_sources(self, window: Window, anchor: Tensor | None) -> None:
        """Put clean latents from elsewhere (keyframes, the end frame, copies, the anchor) where the window wants them."""
        wanted = {f: source.latent for f, source in window.sources.items() if source.kind == "video"}
        others = {f: source for f, source in window.sources.items() if f not in wanted}
        self.latents.put({f: self._source(source, anchor) for f, source in others.items()})
        if wanted and self.upsample is None:  # a later stage starts from the one before it
            if self.source is None:
                raise PlanError("this plan starts from an input video: give one with --input-video")
            video = self.source(max(wanted.values()) + 1)
            self.latents.put({f: video[latent] for f, latent in wanted.items()})

    def _source(self, source: LatentSource, anchor: Tensor | None) -> Tensor:
        if source.kind == "copy":
            return self.latents.frames[source.latent].value
        if source.kind == "anchor":
            return self.latents.frames[0].value if anchor is None else anchor
        return self.keyframes.latent(source)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the latents in flight and the state of the session."""
        tensors, facts = merged(latents=self.latents)
        return tensors | prefixed("session", self.session.state()), facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        restore(tensors, facts, latents=self.latents)
        self.session.load(within("session", tensors))


def upsampled(window: Window, lower_BCFhw: Tensor, upsample: Callable[[Tensor], Tensor]) -> dict[int, Tensor]:
    """Upsample what a window generated at the lower resolution: {frame: (B C H W)} of the frames that moved.

    Keyframes, which are the last columns, are left out.
    """
    shown = window.frames[: len(window.frames) - window.role.count("keyframe")]
    with torch.inference_mode():
        larger = upsample(lower_BCFhw[:, :, : len(shown)])
    return {f: larger[:, :, i] for i, (f, moves) in enumerate(zip(shown, window.moves.tolist())) if moves}
