"""Calls from a prompt to frames; the command line, the reel and these calls resolve their settings in the same place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.events import Frames
from longtake.geometry import frames_of_latents
from longtake.given import Given
from longtake.models import load
from longtake.models.base import Model
from longtake.pictures import Picture
from longtake.script import Scene, Script, beginning
from longtake.settings import Settings

DEFAULT_SECONDS = 10.0


def generate(
    model: Model | str | Path,
    script: Script | str | Path | list[Scene],
    plan: str | None = None,
    *,
    seconds: float | None = None,
    endless: bool = False,
    fps: float | None = None,
    seed: int = 0,
    guidance: float | None = None,
    negative: str | None = None,
    solver: str | None = None,
    size: tuple[int, int] | None = None,
    image: Picture | None = None,
    end_image: Picture | None = None,
    video: Path | Tensor | None = None,
    track: str | Path | Tensor | None = None,
    track_scale: float = 1.0,
    **options: Any,
) -> Iterator[Tensor]:
    """Output frames as they are made: uint8 tensors (T, H, W, 3), in order, without gap. Leaving the loop stops it.

    model: a loaded model, or what `longtake.load` takes. script: a prompt (10 s if `seconds` does not say otherwise),
    scenes, the Path of a .txt or .toml file, or a Script. plan: the name of a strategy with `options` (see
    `longtake.PLANS`); what is not given is what suits the model. size: (height, width).
    image, end_image: the first frame (or the script's `image`, unless there is a video), and the picture that the video comes to. video: what this one goes on from, a file
    or uint8 (T, H, W, 3); its frames come first, in the size and rate of the run, and `seconds` counts the new ones.
    track: what drives the new frames, beside the prompt, for a model that takes it: a .csv, a sound, or rows (T, D).
    Errors: ValueError (ScriptError, PlanError, ModelError, ...) with a sentence that says what to do.
    """
    if not isinstance(model, Model):
        model = load(model)
    if isinstance(script, str) and seconds is None and not endless:
        seconds = DEFAULT_SECONDS
    image = beginning(script) if image is None and video is None else image
    given = Given(
        image,
        end_image,
        Path(video) if isinstance(video, str) else video,
        Path(track) if isinstance(track, str) else track,
    )
    settings = Settings.resolve(
        model, script, seconds=seconds, endless=endless, plan=plan, options=options, fps=fps, seed=seed,
        guidance=guidance, negative=negative, solver=solver, size=size, given=given, track_scale=track_scale,
    )  # fmt: skip
    for event in settings.rollout(model, given).run():
        if isinstance(event, Frames):
            yield event.frames[0]


def generate_video(
    image_or_frames: Picture | Tensor,
    prompt: str,
    model: Model | str | Path = "pocket",
    *,
    seconds: float | None = None,
    plan: str | None = None,
    fps: float | None = None,
    seed: int = 0,
    guidance: float | None = None,
    negative: str | None = None,
    solver: str | None = None,
    size: tuple[int, int] | None = None,
    lora: Mapping[str, float] | Sequence[Any] = (),
    anchor: Picture | None = None,
    **options: Any,
) -> Tensor:
    """One clip, uint8 (T, H, W, 3): from a picture, which is its first frame, or on from the end of earlier frames.

    image_or_frames: a picture, or uint8 frames (T, H, W, 3), of which the model is told as many of the last as it takes. The
    clip holds new frames alone, so clips behind one another are one video without a repeated frame:

        clips = [generate_video("robot.png", "a robot walks", model)]
        for prompt in prompts:
            clips.append(generate_video(clips[-1], prompt, model, anchor="robot.png"))

    seconds: of new video; by default as much as the model makes at once. lora: as in `Scene`. anchor: the picture with
    which all began, for a model that is told of it in every clip; by default the first of the frames. The rest, and
    errors, as in `generate`.
    """
    if not isinstance(model, Model):
        model = load(model)
    many = isinstance(image_or_frames, Tensor) and image_or_frames.ndim == 4
    kind = "video" if many else "image"
    given = Given(**{kind: image_or_frames}, anchor=anchor)  # type: ignore[arg-type]
    scenes = [Scene(prompt, lora=lora)]  # type: ignore[arg-type]
    resolve = partial(
        Settings.resolve, model, scenes, plan=plan, options=options, fps=fps, seed=seed, guidance=guidance,
        negative=negative, solver=solver, size=size, given=given,
    )  # fmt: skip
    settings = resolve(seconds=1.0 if seconds is None else seconds)
    if seconds is None:
        window = getattr(settings.make_plan(), "window", None)
        at_once = window or frames_of_latents(model.limits.view, model.codec.stride)
        start = settings.told(model, given).start
        known = len(start[0, 0]) if many and start is not None else 0
        settings = resolve(seconds=(at_once - known) / settings.fps)
    rollout = settings.new_part(model, given)
    return torch.cat([event.frames[0] for event in rollout.run() if isinstance(event, Frames)])
