"""Input images, videos and control signals, resized and resampled to the model's resolution and frame rate."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.files import problem_of
from longtake.core.options import SamplingOptions
from longtake.engine.control import ControlSignal
from longtake.engine.inputs import ReadFrames, RolloutInputs
from longtake.media.arrays import video_pixels
from longtake.media.conditioning_frames import blurred_and_compressed
from longtake.media.control_signal import read_control
from longtake.media.images import fit_image, frames_to_video, open_image, resample_frames
from longtake.media.video_reader import timed_frames
from longtake.models.model import Model
from longtake.models.registry import presets
from longtake.pipelines.settings.request import Inputs
from longtake.pipelines.settings.resolve import fps_of
from longtake.planning.window import Plan

CONTEXT = 17  # frames of an input video that a strategy without an overlap is conditioned on
PIECE = 24  # frames of an input video that are decoded at a time


@dataclass(frozen=True)
class LoadedInputs:
    """Inputs in the size and frame rate of the run.

    before: frames of the input video that is continued, whose end is `rollout.start`. source_frames, source_sha256: number
    and SHA-256 of the frames of the input video that is made into another one.
    """

    rollout: RolloutInputs = field(default_factory=RolloutInputs)
    before: int = 0
    source_frames: int = 0
    source_sha256: str = ""

    @property
    def sha256(self) -> str:
        """The SHA-256 of all frames and of the control signal."""
        sha, given = hashlib.sha256(), self.rollout
        control = None if given.control is None else given.control.values
        optional = [one for one in (control, given.anchor) if one is not None]
        for frames in (given.start, given.end, *optional):
            sha.update(b"-" if frames is None else str(tuple(frames.shape)).encode() + frames.numpy().tobytes())
        sha.update(self.source_sha256.encode())
        return sha.hexdigest()


def load_frames(
    inputs: Inputs, size: tuple[int, int], fps: float, max_frames: int, temporal_compression: int
) -> LoadedInputs:
    """Load the inputs as frames of this (height, width) and frame rate. PlanError names a file that cannot be read.

    Of a video these are its last frames: at most max_frames, and 1 + temporal_compression * k, so that they fill whole
    latents; its first frame is the anchor.
    """
    key = (size, fps, max_frames, temporal_compression)
    if key not in inputs.cache:
        frame = lambda image: None if image is None else frames_to_video(fit_image(image, size)[None])
        if inputs.video is None:
            loaded = LoadedInputs(RolloutInputs(frame(inputs.image)))
        else:
            loaded = _video_end(inputs, size, fps, max_frames, temporal_compression)
        rows = read_control(inputs.control, fps) if isinstance(inputs.control, Path) else inputs.control
        more: dict[str, Any] = dict(
            end=frame(inputs.last_image),
            control=None if rows is None else ControlSignal(torch.as_tensor(rows, dtype=torch.float32)),
        )
        if inputs.anchor_image is not None:
            more["anchor"] = frame(inputs.anchor_image)
        inputs.cache[key] = replace(loaded, rollout=replace(loaded.rollout, **more))
    return inputs.cache[key]


def load_inputs(inputs: Inputs, model: Model, plan: Plan, sampling: SamplingOptions) -> LoadedInputs:
    """Load the inputs for a plan and resolved sampling options: of an input video as many frames as its windows overlap by.

    The frames are blurred and compressed as the options say, so `LoadedInputs.sha256` covers that too.
    """
    overlap = plan.traits.context_frames
    seen = model.vae.temporal_compression * (model.limits.max_latent_frames - 1)
    most = max(1, min(CONTEXT if overlap is None else overlap, seen))
    loaded = load_frames(inputs, model.size, fps_of(sampling), most, model.vae.temporal_compression)
    key = (id(loaded), sampling.image_cond_blur, sampling.image_cond_crf)
    if key not in inputs.cache:
        loaded = replace(loaded, rollout=as_conditioning(loaded.rollout, sampling))
        inputs.cache[key] = loaded if inputs.input_video is None else _with_source(loaded, inputs, model, sampling)
    return inputs.cache[key]


def source_frames(inputs: Inputs, fps: float) -> int:
    """Count the frames of the input video that is made into another one, at a frame rate; 0 if there is none."""
    key = ("source", fps)
    if key not in inputs.cache:
        inputs.cache[key] = (
            0 if inputs.input_video is None else sum(1 for _ in frames_of(inputs.input_video, Fraction(fps)))
        )
        if inputs.input_video is not None and not inputs.cache[key]:
            raise PlanError(f"{_called(inputs.input_video)} has no frames.")
    return inputs.cache[key]


def source_reader(video: Path | Tensor, size: tuple[int, int], sampling: SamplingOptions) -> ReadFrames:
    """Return a function (first, count) -> frames (1, 3, count, H, W) of a video, as conditioning frames.

    The last frame stands for those behind the end, which fill its last latent.
    """

    def read(first: int, count: int) -> Tensor:
        wanted: list[Tensor] = []
        for number, frame in enumerate(islice(frames_of(video, Fraction(fps_of(sampling))), first + count)):
            wanted = [*wanted, frame] if number > first else [frame]
        found = [fit_image(frame, size) for frame in wanted]
        frames = frames_to_video(torch.stack(found + found[-1:] * (count - len(found))))
        return blurred_and_compressed(frames, sampling.image_cond_blur or 0.0, sampling.image_cond_crf or 0)

    return read


def _with_source(loaded: LoadedInputs, inputs: Inputs, model: Model, sampling: SamplingOptions) -> LoadedInputs:
    """Add the input video that is made into another one."""
    assert inputs.input_video is not None
    sha, count = hashlib.sha256(), 0
    for frame in frames_of(inputs.input_video, Fraction(fps_of(sampling))):
        sha.update(fit_image(frame, model.size).numpy().tobytes())
        count += 1
    read = source_reader(inputs.input_video, model.size, sampling)
    sha.update(read(0, 1).numpy().tobytes())  # blurred and compressed
    return replace(
        loaded, rollout=replace(loaded.rollout, source=read), source_frames=count, source_sha256=sha.hexdigest()
    )


def as_conditioning(inputs: RolloutInputs, sampling: SamplingOptions) -> RolloutInputs:
    """Blur and compress all frames that the model will encode, as resolved sampling options say."""
    blur, crf = sampling.image_cond_blur or 0.0, sampling.image_cond_crf or 0
    soft = lambda frames: None if frames is None else blurred_and_compressed(frames, blur, crf)
    keyframes = [replace(one, frames=blurred_and_compressed(one.frames, blur, crf)) for one in inputs.keyframes]
    return replace(
        inputs, keyframes=tuple(keyframes), start=soft(inputs.start), anchor=soft(inputs.anchor), end=soft(inputs.end)
    )


def video_frames(inputs: Inputs, size: tuple[int, int], fps: float) -> Iterator[Tensor]:
    """Yield the whole input video as uint8 (T, H, W, 3), a few frames at a time, in constant memory."""
    assert inputs.video is not None
    shown = frames_of(inputs.video, Fraction(fps))
    while piece := [fit_image(frame, size) for frame in islice(shown, PIECE)]:
        yield torch.stack(piece)


def is_portrait(inputs: Inputs) -> bool | None:
    """Return whether the first input image or frame is taller than wide; None if it is square, or there is none."""
    video = inputs.input_video if inputs.video is None else inputs.video
    if not inputs.has_frames and video is None:
        return None
    if video is None:
        image = inputs.image if inputs.image is not None else inputs.last_image
        width, height = open_image(image).size  # type: ignore[arg-type]
    else:
        height, width = next(frames_of(video, Fraction(1))).shape[:2]
    return None if height == width else height > width


def check_inputs(model: Model, inputs: Inputs) -> None:
    """Raise PlanError unless the model can be conditioned on the inputs; the message names checkpoints that can."""
    if inputs.has_frames and model.limits.conditioning == "none":
        more = "" if inputs.last_image is not None else f", or an image-to-video checkpoint such as {_preset_of('i2v')}"
        raise PlanError(
            f"{model.name} is a text-to-video model and cannot use an input image or video. Use a diffusion-forcing "
            f"checkpoint such as {_preset_of('df')}{more}."
        )
    if inputs.input_video is not None and model.limits.conditioning == "concat":
        raise PlanError(
            f"{model.name} is conditioned on an image by channel and cannot start from --input-video. For video to video use "
            f"a checkpoint such as {_preset_of('df')} or {_preset_of('dev')}."
        )
    if inputs.last_image is not None and model.limits.conditioning == "concat":
        raise PlanError(
            f"{model.name} is conditioned on first frames only. For a last image use a diffusion-forcing checkpoint such "
            f"as {_preset_of('df')}."
        )
    if inputs.last_image is not None and model.limits.causal:
        raise PlanError(
            f"{model.name} is block-causal: no frame attends to later ones, so it cannot use a last image. Remove it."
        )


def _video_end(
    inputs: Inputs, size: tuple[int, int], fps: float, max_frames: int, temporal_compression: int
) -> LoadedInputs:
    last: deque[Tensor] = deque(maxlen=max_frames)
    count, first = 0, None
    assert inputs.video is not None
    for frame in frames_of(inputs.video, Fraction(fps)):
        first = frame if first is None else first
        last.append(frame)
        count += 1
    if first is None:
        raise PlanError(f"{_called(inputs.video)} has no frames.")
    whole = 1 + (len(last) - 1) // temporal_compression * temporal_compression
    start = frames_to_video(torch.stack([fit_image(frame, size) for frame in list(last)[-whole:]]))
    return LoadedInputs(RolloutInputs(start, True, frames_to_video(fit_image(first, size)[None])), count)


def _called(video: Path | Tensor) -> str:
    return str(video) if isinstance(video, Path) else "The input video"


def frames_of(video: Path | Tensor, fps: Fraction) -> Iterator[Tensor]:
    """Frames of an input video (H, W, 3) at a frame rate, in their own size."""
    if not isinstance(video, str | Path):
        return iter(video_pixels(video))
    if problem := problem_of(path := Path(video)):
        raise PlanError(f"there is no video at {path}: {problem}")
    return resample_frames(timed_frames(path), fps)


def _preset_of(kind: str) -> str:
    return next(preset.name for preset in presets().values() if preset.kind == kind)
