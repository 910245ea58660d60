"""Calls from a prompt to frames: `generate` for a video of any length, `generate_video` for one clip at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from longtake.core.errors import SettingsError
from longtake.core.geometry import frames_of_latents
from longtake.core.options import SamplingOptions
from longtake.engine.events import Frames
from longtake.media.arrays import one_array
from longtake.media.images import ImageInput
from longtake.models.model import Model
from longtake.pipelines.call.keywords import VideoKeywords
from longtake.pipelines.call.prompts import one_video, own_names, python_words, scripts_of
from longtake.pipelines.pipeline import Pipeline, model_of
from longtake.pipelines.settings.request import Inputs, Length, Request, documented
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Scene, Script


@documented(Length, Inputs, SamplingOptions)
def generate(
    prompt: Script | str | Path | list[Scene],
    model: Pipeline | Model | str | Path = "pocket",
    *,
    strategy: str | None = None,
    loras: Sequence[tuple[str, float]] = (),
    **options: Unpack[VideoKeywords],
) -> Iterator[Tensor]:
    """Generate a video; yield its frames as they are decoded: uint8 (T, H, W, 3), in order, without a gap.

    Leaving the loop stops the generation.

    prompt: a text (10 seconds where no length is given), scenes, the path of a .txt or .toml script, or a Script.
    model: what `longtake.load` returned, or what it takes. strategy: a name of `longtake.STRATEGIES` (None: the model's own);
    further keywords are its options. loras: files and strengths for every scene. Frames of `video` come first, resized and
    resampled to the frame rate. Raises InputError (ScriptError, PlanError, ModelError, ...), whose message says what to do.
    """
    if isinstance(prompt, Pipeline | Model):
        raise SettingsError("generate takes the prompt first, then the model")
    pipeline = model if isinstance(model, Pipeline) else Pipeline(model_of(model))
    with python_words():
        script = one_video("generate", scripts_of(prompt, None))
        own = own_names(options)
        request = Request.of(script, strategy=strategy, loras=pipeline.all_loras(loras), **own)
        settings = RunSettings.resolve(pipeline.model, request)
        return _frames(settings.generation(pipeline.model, request.inputs))


@documented(Length, Inputs, SamplingOptions, without=("image", "video", "endless"))
def generate_video(
    image_or_frames: ImageInput | Tensor,
    prompt: str,
    model: Pipeline | Model | str | Path = "pocket",
    *,
    strategy: str | None = None,
    lora: Mapping[str, float] | Sequence[Any] = (),
    **options: Unpack[VideoKeywords],
) -> Tensor:
    """Generate one clip, uint8 (T, H, W, 3), from a first image, or from the end of earlier frames.

    image_or_frames: an image, or uint8 frames (T, H, W, 3), of which as many of the last are context frames as the
    strategy overlaps by. The clip holds new frames only, so clips in a row are one video without a repeated frame:

        clips = [generate_video("robot.png", "a robot walks", model)]
        for prompt in prompts:
            clips.append(generate_video(clips[-1], prompt, model, anchor_image="robot.png"))

    lora: as in `Scene`. The length is by default what the model generates in one window. All else is as in `generate`.
    """
    loaded, own = model_of(model), own_names(options)
    image_or_frames = image_or_frames if isinstance(image_or_frames, str | Path) else one_array(image_or_frames)
    many = isinstance(image_or_frames, Tensor | np.ndarray) and image_or_frames.ndim == 4
    own["video" if many else "image"] = image_or_frames
    scenes = [Scene(prompt, lora=lora)]  # type: ignore[arg-type]
    with python_words():
        if own.get("seconds") is None and own.get("num_frames") is None:
            first = Request.of(scenes, strategy=strategy, **{**own, "seconds": 1.0})
            own["num_frames"] = _one_window(loaded, first, many)
        request = Request.of(scenes, strategy=strategy, **own)
        rollout = RunSettings.resolve(loaded, request).new_rollout(loaded, request.inputs)
    return torch.cat(list(_frames(rollout)))


def _one_window(model: Model, request: Request, extends: bool) -> int:
    """Return the new frames that fit into one window of the strategy."""
    settings = RunSettings.resolve(model, request)
    window = settings.make_plan().traits.window_frames
    at_once = window or frames_of_latents(model.limits.max_latent_frames, model.vae.temporal_compression)
    start = settings.rollout_inputs(model, request.inputs).start
    return at_once - (start.shape[2] if extends and start is not None else 0)


def _frames(rollout: Any) -> Iterator[Tensor]:
    return (event.frames[0] for event in rollout.run() if isinstance(event, Frames))
