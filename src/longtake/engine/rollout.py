"""The loop that makes video: windows in, output frames out, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from longtake.core.solvers import SolverStep
from longtake.engine.clips.clip import Clip, ClipContext
from longtake.engine.clips.resolution import Resolution
from longtake.engine.clips.shot import Shot
from longtake.engine.conditioning import Conditioner
from longtake.engine.events import Event, StepDone, WindowDone, WindowStarted
from longtake.engine.output.video_output import VideoOutput
from longtake.engine.state import State, merged, restore
from longtake.models.model import Model
from longtake.planning.shots import TimelineWindow
from longtake.planning.timeline import Timeline
from longtake.planning.window import Cut


class Rollout:
    """Generates a video window by window: iterate over `run()`. `state()` after WindowDone is all that a resume needs.

    Build one with `longtake.engine.build.build_rollout`.
    """

    def __init__(
        self, timeline: Timeline, conditioner: Conditioner, solver: SolverStep, resolutions: Sequence[Resolution],
        output: VideoOutput, shot: Shot, clip: Clip,
    ):  # fmt: skip
        self.timeline, self.conditioner, self.solver, self.resolutions = timeline, conditioner, solver, resolutions
        self.output, self.shot, self.clip = output, shot, clip

    @property
    def model(self) -> Model:
        """The model that generates the video."""
        return self.resolutions[-1].model

    def run(self) -> Iterator[Event]:
        """Generate the video from where it stands; leaving the loop stops it. PlanError if the model cannot run the plan."""
        try:
            while (now := self.timeline.next()) is not None:
                steps = sum(each.window(now.window).steps for each in self.resolutions)
                yield WindowStarted(now.index, now.window, self.output.shown, steps)
                yield from self._begin(now)
                latents = yield from self._generate(now)
                self.timeline.done()
                yield WindowDone(now.index, self.output.shown, latents)
            yield from self.output.finish()
        finally:
            self.output.close()

    def _begin(self, now: TimelineWindow) -> Iterator[Event]:
        """Start a shot and a clip if the window does, and announce changes of scene."""
        if now.shot_start:
            yield from self.output.finish(self.clip.remaining(now.window))
            self.shot = self.shot.next(now.shot_start)
            self._start_clip(Cut(0), ClipContext.of_anchor(self.shot, len(self.resolutions)))
        elif now.window.cut:
            self._start_clip(now.window.cut, self._handed_over(now.window.cut))
        self.output.begin_window(now)
        new = list(now.window.frames) if now.shot_start else self.clip.new_frames(now.window)
        yield from self.timeline.scene_changes(now, [self.clip.frame(f) for f in new])
        in_view = [f for f, role in zip(now.window.frames, now.window.role) if role != "keyframe"]
        self.timeline.begin(self.clip.frame(in_view[-1] + 1))

    def _generate(self, now: TimelineWindow) -> Generator[Event, None, Tensor | None]:
        """Denoise a window and give its final latents to the output; returns them as (B C F h w), None if none are final."""
        clip = self.clip
        cond = self.conditioner.for_window(now.window, self.timeline.script, clip.first, clip.new_frames(now.window))
        final = yield from self._with_output(clip.generate(now, cond, self.shot, self.solver))
        latents = clip.for_decoder(final, now.window)
        yield from self.output.push(latents, now, clip.end, self._on_decoded(now))
        return torch.stack(list(final.values()), 2) if final else None

    def _with_output(
        self, steps: Generator[StepDone, None, dict[int, Tensor]]
    ) -> Generator[Event, None, dict[int, Tensor]]:
        """Pass on the steps of a window, with frames that are decoded meanwhile; returns its final latents."""
        while True:
            try:
                step = next(steps)
            except StopIteration as done:
                return done.value
            yield step
            yield from self.output.poll()

    def _on_decoded(self, now: TimelineWindow) -> Callable[[Tensor], None] | None:
        """Return a function that keeps decoded frames, if the model is conditioned on pixels and still needs some."""
        if self.model.limits.conditioning != "concat":
            return None
        if self.shot.first_frame is not None and not now.resamples_anchor:
            return None

        def keep(video: Tensor) -> None:
            first = video[:, :, :1].clamp(-1, 1).clone()
            if self.shot.first_frame is None:
                self.shot.first_frame = first
            if now.resamples_anchor:
                self.clip.context_pixels = first

        return keep

    # ------------------------------------------------------------ clips
    def _start_clip(self, cut: Cut, context: ClipContext) -> None:
        first = self.output.start_clip(cut, self.clip.end)
        self.clip = Clip(self.resolutions, self.clip.number + 1, first)
        self.clip.start(context)

    def _handed_over(self, cut: Cut) -> ClipContext:
        """Return what a cut hands over from the end of the old clip to the new one."""
        if not cut.overlap:
            return ClipContext()
        if cut.handoff == "latents":
            return self.clip.overlap_latents(cut, self.shot)
        frames = self.output.assembler.overlap(cut)
        return ClipContext.encoded(frames, self.resolutions, self.clip.end - cut.overlap)

    # ------------------------------------------------------------ state
    def state(self) -> State:
        """Return tensors and facts (for JSON) from which `load` continues bit for bit; only right after WindowDone."""
        tensors, facts = merged(timeline=self.timeline, shot=self.shot, clip=self.clip, output=self.output)
        return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}, facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over a saved state: the next `run` continues after its window."""
        restore(tensors, facts, timeline=self.timeline, shot=self.shot, clip=self.clip, output=self.output)
