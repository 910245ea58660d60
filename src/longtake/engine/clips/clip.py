"""One clip: a run of latents in one causal-VAE coordinate system, generated at one resolution or in two stages."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.geometry import first_frame, latents_of_frames
from longtake.core.latent_stats import tone_mapped
from longtake.core.noise import mix
from longtake.core.solvers import SolverStep
from longtake.engine.clips.latent_buffer import LatentBuffer
from longtake.engine.clips.resolution import Resolution
from longtake.engine.clips.shot import Shot
from longtake.engine.clips.stage import Stage
from longtake.engine.events import StepDone
from longtake.engine.finite_check import FiniteCheck, non_finite_latents
from longtake.engine.state import merged, present, restore
from longtake.models.interfaces import Conditioning, ContextFrames
from longtake.models.model import Model
from longtake.planning.shots import TimelineWindow
from longtake.planning.window import Cut, Window


@dataclass(frozen=True)
class ClipContext:
    """The context that a clip starts with: clean latents (B C h w) per stage, and the frames (B 3 T H W) that they encode.

    pixels is None where latents are handed over as they are.
    """

    latents: Sequence[Sequence[Tensor]] = ()
    pixels: Tensor | None = None

    @staticmethod
    def encoded(frames_B3THW: Tensor, resolutions: Sequence[Resolution], first: int = 0) -> ClipContext:
        """Encode output frames for every stage. first: see `Resolution.encode`."""
        return ClipContext([resolution.encode(frames_B3THW, first) for resolution in resolutions], frames_B3THW)

    @staticmethod
    def of_anchor(shot: Shot, stages: int) -> ClipContext:
        """Return the anchor of a shot as context; no context where the shot has none yet."""
        known = stages - 1 in shot.anchors
        return ClipContext([[shot.anchors[i]] for i in range(stages)], shot.first_frame) if known else ClipContext()


class Clip:
    """A run of latents with one decoder state. number: counted in the video; first: its first output frame.

    context_pixels: the output frames (B 3 T H W) with which it started, for a model that is conditioned on pixels.
    """

    def __init__(self, resolutions: Sequence[Resolution], number: int = 0, first: int = 0):
        self.resolutions, self.number, self.first = resolutions, number, first
        self.stages: list[Stage] = [resolution.stage(number, first) for resolution in resolutions]
        self.context_pixels: Tensor | None = None

    @property
    def latents(self) -> LatentBuffer:
        """The latents at full size."""
        return self.stages[-1].latents

    @property
    def model(self) -> Model:
        """The model that generates the clip."""
        return self.resolutions[-1].model

    @property
    def end(self) -> int:
        """The output frame, in the video, behind the latents that are final so far."""
        return self.frame(self.latents.done)

    def frame(self, latent: int) -> int:
        """Return the first output frame, in the video, of a latent frame of this clip."""
        return self.first + first_frame(latent, self.model.vae.temporal_compression)

    def new_frames(self, window: Window) -> list[int]:
        """List the latent frames of a window that are not in the buffer yet; the last one in view if all are."""
        return [f for f in window.frames if f not in self.latents.frames] or [window.frames[-1]]

    # ------------------------------------------------------------ from clip to clip
    def start(self, context: ClipContext) -> None:
        """Begin with context: clean latents in the buffer, and the pixels if the model is conditioned on them."""
        for stage, latents in zip(self.stages, context.latents):
            stage.latents.put(dict(enumerate(latents)))
        model = self.model
        if context.pixels is not None and model.limits.conditioning == "concat":
            self.context_pixels = context.pixels.to(model.device)

    def overlap_latents(self, cut: Cut, shot: Shot) -> ClipContext:
        """Return the newest latents, for a cut that hands latents over; behind the shot's anchor if the cut asks for it.

        Raise PlanError in two-stage generation, where the next clip needs them at both resolutions.
        """
        last = len(self.stages) - 1
        count = latents_of_frames(cut.overlap, self.model.vae.temporal_compression)
        recent = [frame.value for _, frame in sorted(self.latents.frames.items())]
        anchor = [shot.anchors[last]] if cut.anchor and last in shot.anchors else []
        newest = recent[len(recent) - count + len(anchor) :]
        if last and newest:
            raise PlanError("two-stage generation hands the end of a clip over as pixels: use --handoff pixels")
        if last:
            return ClipContext.of_anchor(shot, len(self.stages))
        return ClipContext([[*anchor, *newest]])

    # ------------------------------------------------------------ one window
    def generate(
        self, now: TimelineWindow, cond: Conditioning, shot: Shot, solver: SolverStep
    ) -> Generator[StepDone, None, dict[int, Tensor]]:
        """Denoise a window, stage by stage; yields after every step, and returns the final latents {frame: (B C h w)}."""
        windows = [resolution.window(now.window) for resolution in self.resolutions]
        steps, done, lower = sum(window.steps for window in windows), 0, None
        final: dict[int, Tensor] = {}
        for number, (stage, window) in enumerate(zip(self.stages, windows)):
            context = ContextFrames(
                {}, self.context_pixels, shot.anchors.get(number), shot.first_frame, no_context=now.resamples_anchor
            )
            check = FiniteCheck(window.steps)
            for row, (x, solver_state) in enumerate(stage.run(window, cond, context, solver, lower), 1):  # noqa: B007
                check.note(x)
                yield StepDone(now.index, done + row, steps, number, x, window.sigmas[row])
            self._refuse_non_finite(check, now, cond, done, steps)
            done += window.steps
            if number == len(self.stages) - 1:
                x = shot.adain.applied(x, window, cond.texts[cond.scene[-1]].key)
            final = stage.finish(window, x, solver_state, now.ends_clip)
            shot.remember(number, final)
            lower = x
        return self._as_decoded(final, window, x) if self.resolutions[-1].decodes_context_noise else final

    @staticmethod
    def _as_decoded(final: dict[int, Tensor], window: Window, x: Tensor) -> dict[int, Tensor]:
        """Give final context frames the noise that they had in the last step, x (B C F h w) of the window."""
        if not window.image_cond_noise_scale:
            return final
        context = [(f, i) for i, (f, role) in enumerate(zip(window.frames, window.role)) if role == "context"]
        return final | {f: x[:, :, i].clone() for f, i in context if f in final}

    def _refuse_non_finite(
        self, check: FiniteCheck, now: TimelineWindow, cond: Conditioning, before: int, steps: int
    ) -> None:
        """Raise NonFiniteError if latents of the window became non-finite. before: steps of earlier stages."""
        if (bad := check.first_bad()) is None:
            return
        step, columns = bad
        latents = [now.window.frames[column] for column in columns if now.window.role[column] != "keyframe"]
        frames = [n for f in latents for n in (self.frame(f), self.frame(f + 1) - 1)]
        raise non_finite_latents(self.model, cond, now.index, before + step, steps, sorted(set(frames)))

    def for_decoder(self, final: Mapping[int, Tensor], window: Window) -> list[Tensor]:
        """Prepare final latents {frame: (B C h w)} for the decoder: add the noise that it was trained on, and tone-map."""
        sigma, compression = self.model.decoding.noise_sigma, self.model.decoding.tone_map_compression
        if not final or not (sigma or compression):
            return list(final.values())
        x = torch.stack(list(final.values()), 2)
        if sigma:
            noise = self.stages[-1].noise.draw(window, "decode", list(final))
            x = mix(x, noise, torch.full((len(final),), sigma))
        return list(tone_mapped(x, compression).unbind(2))

    def remaining(self, window: Window) -> list[Tensor]:
        """Return, for the decoder, the latents that a later window was to revise; an edit ended the shot before `window`."""
        return self.for_decoder(self.latents.remaining(), window)

    # ------------------------------------------------------------ state
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the clip's place in the video and the state of its stages."""
        tensors, facts = merged(**{f"stage{i}": stage for i, stage in enumerate(self.stages)})
        place = {"number": self.number, "first": self.first}
        return tensors | present(context_pixels=self.context_pixels), facts | place

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Become the saved clip, with new stages in its place."""
        self.number, self.first = facts["number"], facts["first"]
        self.stages = [resolution.stage(self.number, self.first) for resolution in self.resolutions]
        restore(tensors, facts, **{f"stage{i}": stage for i, stage in enumerate(self.stages)})
        self.context_pixels = tensors.get("context_pixels")
