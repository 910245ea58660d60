"""LTX-Video as a pipeline: images and clips as keyframes, a first and a last frame, and extension in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.engine.events import Event, Frames
from longtake.engine.inputs import RolloutInputs
from longtake.engine.rollout import Rollout
from longtake.media.arrays import video_pixels
from longtake.media.images import ImageInput, images_to_video
from longtake.pipelines.call.keywords import VideoKeywords
from longtake.pipelines.pipeline import Pipeline, Started
from longtake.pipelines.settings.inputs import as_conditioning, frames_of
from longtake.pipelines.settings.resolve import with_token_shift
from longtake.pipelines.settings.run_settings import new_rollout
from longtake.planning.keyframes import Keyframe
from longtake.planning.script import Script

NUM_FRAMES = 121  # where no length is given, as published


@dataclass(frozen=True)
class Condition:
    """A keyframe: an image, or a clip as uint8 (T, H, W, 3) with T = 1 + 8 k, at an output frame.

    strength 1 shows it unchanged; below 1 it is denoised again from sigma 1 - strength.
    """

    image: ImageInput | None = None
    video: Tensor | None = None
    frame: int = 0
    strength: float = 1.0

    def __post_init__(self):
        if (self.image is None) == (self.video is None):
            raise PlanError("a condition is an image or a video: give one of them")

    def keyframe(self, size: tuple[int, int]) -> Keyframe:
        """Return the keyframe as the engine takes it, resized to (height, width)."""
        shown: list[Any] = [self.image] if self.video is None else list(video_pixels(self.video))
        return Keyframe(self.frame, images_to_video(shown, size), self.strength)


class LTXKeywords(VideoKeywords, total=False):
    """The keyword arguments of every pipeline, and those of keyframes and of extension."""

    conditions: Sequence[Condition]
    extend: Literal["forward", "backward"]


class LTXVideoPipeline(Pipeline):
    """Text to video with keyframes, of any length. `from_pretrained` takes what `longtake.load` takes.

    The call takes what every `Pipeline` takes, and:

    num_frames: 121 where no length is given. image, last_image: the first and the last frame, as keyframes. conditions:
    images and clips at other frames. video: a file, or frames (T, H, W, 3), which the new frames follow, or precede with
    extend="backward"; `context_frames` of it, 1 + 8 k (17), are context, and only new frames come out. input_video: uint8
    (T, H, W, 3), from which the new frames start (video to video), without the first skip_initial_inference_steps of the
    steps. guidance_scale may also be a `Guidance`. A call with keyframes or a video cannot be recorded.
    """

    family = "ltx"

    def start(
        self, script: Any, *, num_frames: int | None = None, seconds: float | None = None,
        image: ImageInput | None = None, last_image: ImageInput | None = None, conditions: Sequence[Condition] = (),
        video: Path | Tensor | None = None, extend: Literal["forward", "backward"] = "forward", context_frames: int = 17,
        strategy: str | None = None, loras: Any = (), **options: Any,
    ) -> Started:  # fmt: skip
        """Resolve the arguments of one video; nothing is generated yet. PlanError names the nearest settings that work."""
        given = options.get("input_video") is not None
        if num_frames is None and seconds is None and isinstance(script, str) and not given:
            num_frames = NUM_FRAMES
        length = {"num_frames": num_frames, "seconds": seconds}
        if image is None and last_image is None and video is None and not conditions:
            return super().start(script, strategy=strategy, loras=loras, **length, **options)
        text = Pipeline.start(self, script, strategy=strategy, loras=loras, **length, **options)
        assert text.settings is not None
        count, settings, model = text.frames, text.settings, text.model
        if count is None:
            raise PlanError("a video with keyframes has an end: give num_frames or seconds")
        shown = list(conditions) + ([] if image is None else [Condition(image)])
        shown += [] if last_image is None else [Condition(last_image, frame=count - 1)]
        start, total = None, count
        if video is not None:
            video = torch.stack(list(frames_of(video, Fraction(text.fps))))
            if not 1 <= context_frames <= len(video):
                raise PlanError(
                    f"context_frames is {context_frames}, but must lie between 1 and the {len(video)} frames of the video"
                )
            if extend == "forward":
                start = images_to_video(list(video[-context_frames:]), model.size)
            else:
                shown.append(Condition(video=video[:context_frames], frame=count))
                total += context_frames
        if given and video is not None:
            raise PlanError("input_video is no video to extend: leave `video` out")
        keyframes = tuple(condition.keyframe(model.size) for condition in shown)
        inputs = as_conditioning(RolloutInputs(start, extend=start is not None, keyframes=keyframes), settings.sampling)
        plan = settings.make_plan()
        if given:
            inputs = replace(inputs, source=settings.rollout_inputs(self.model, text.inputs).source)
        elif options.get("shift") is None:
            plan = with_token_shift(model, plan, total, inputs)
        whole = replace(Script.from_facts(settings.script), frames=total)
        rollout = new_rollout(model, whole, plan, settings.sampling, inputs)
        return Started(FirstFrames(rollout, count), model, text.fps, text.seed, count)


class FirstFrames:
    """The first `count` frames of a rollout."""

    def __init__(self, rollout: Rollout, count: int):
        self.rollout, self.count = rollout, count

    def run(self) -> Iterator[Event]:
        """Yield the events of the rollout up to its last wanted frame."""
        for event in self.rollout.run():
            if isinstance(event, Frames):
                last = event.first + event.video.shape[2] >= self.count
                yield Frames(event.first, event.video[:, :, : self.count - event.first])
                if last:
                    return
            else:
                yield event
