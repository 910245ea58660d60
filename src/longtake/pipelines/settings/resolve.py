"""Requested options and the defaults of a model, merged into the values that a run uses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from longtake.core.errors import SettingsError
from longtake.core.geometry import frames_of_latents, latents_of_frames
from longtake.core.guidance_settings import MOST_SCALE, STG_MODES
from longtake.core.options import SamplingOptions
from longtake.core.process.notices import notice
from longtake.core.sigmas import token_shift
from longtake.core.solvers import SOLVERS
from longtake.engine.guidance import guidance_of
from longtake.engine.inputs import RolloutInputs
from longtake.media.conditioning_frames import MOST_CRF
from longtake.models.model import Model, with_fps, with_size
from longtake.planning.strategies.registry import default_options_for, make_plan, merge_options
from longtake.planning.window import Plan, with_schedule

MOST_FPS = 1000


def resolve_sampling(model: Model, requested: SamplingOptions, portrait: bool | None = None) -> SamplingOptions:
    """Fill in the values of the model where none is requested; height and width stay None for the model's own size.

    portrait: whether the inputs are taller than wide (None: square, or none); where no size is requested, the model's
    size is turned to suit them. SettingsError and PlanError name a value that the model cannot use, and one that it can.
    """
    requested = _published(model, requested)
    scale = requested.guidance_scale
    for flag, value in (("--guidance-scale", scale), ("--control-scale", requested.control_scale)):
        if isinstance(value, int | float) and not abs(value) <= MOST_SCALE:
            raise SettingsError(f"{flag} must be a number from -{MOST_SCALE:g} to {MOST_SCALE:g}, not {value:g}")
    if requested.seed < 0:
        raise SettingsError(f"--seed must be 0 or more, not {requested.seed}")
    if requested.solver is not None and requested.solver not in SOLVERS:
        raise SettingsError(f"--solver must be one of {', '.join(SOLVERS)}, not {requested.solver!r}")
    _check_image_cond(requested)
    _check_stg_mode(model, requested)
    size = requested.size(model.size) if requested.sized else _turned(model.size, portrait)
    own = with_size(model, size).size == model.size
    defaults = model.defaults
    return replace(
        requested,
        fps=_frame_rate(model, requested.fps),
        height=None if own else size[0],
        width=None if own else size[1],
        guidance_scale=defaults.guidance_scale if scale is None else scale,
        negative_prompt=defaults.negative_prompt if requested.negative_prompt is None else requested.negative_prompt,
        solver=defaults.solver if requested.solver is None else requested.solver,
        image_cond_blur=(defaults.image_cond_blur if requested.image_cond_blur is None else requested.image_cond_blur)
        or None,
        image_cond_crf=(defaults.image_cond_crf if requested.image_cond_crf is None else requested.image_cond_crf)
        or None,
    )


def video_model(model: Model, sampling: SamplingOptions) -> Model:
    """Return the model generating video of the resolved size and frame rate."""
    return with_fps(with_size(model, sampling.size(model.size)), fps_of(sampling))


def fps_of(sampling: SamplingOptions) -> float:
    """Return the frame rate of resolved sampling options."""
    assert sampling.fps is not None, "these sampling options are not resolved"
    return sampling.fps


def plan_for(model: Model, name: str, requested: Mapping[str, Any]) -> Plan:
    """Return the plan of a strategy with the requested options, and those that suit the model in place of the others.

    The model's default window is at most as long as it sees at once. PlanError names an option that cannot be used.
    """
    defaults = model.defaults
    own = default_options_for(name, defaults.strategy, defaults.strategy_options, defaults.sampling_options)
    if own.get("window"):
        own["window"] = min(
            own["window"], frames_of_latents(model.limits.max_latent_frames, model.vae.temporal_compression)
        )
    return make_plan(name, **merge_options(own, requested))


def with_token_shift(model: Model, plan: Plan, frames: int | None, inputs: RolloutInputs) -> Plan:
    """Return the plan with the timestep shift of the tokens in its first window, for a model published that way.

    frames: output frames to generate (None: without end).
    """
    if not model.defaults.shift_by_tokens:
        return plan
    given = 0 if inputs.start is None else inputs.start.shape[2]
    if frames is not None:
        frames += inputs.start_offset
    known = latents_of_frames(given, model.vae.temporal_compression)
    first = next(plan.windows(frames, model.vae.temporal_compression, model.limits, known))
    shown = len(first.frames) - first.role.count("keyframe")
    return with_schedule(plan, shift=token_shift(shown * model.format.tokens_per_frame))


def _published(model: Model, requested: SamplingOptions) -> SamplingOptions:
    """Replace `published` by the options that it stands for; what is requested besides takes precedence."""
    if not requested.published:
        return replace(requested, published=None)
    own = model.defaults.published
    if not own:
        notice(f"--published changes nothing: {model.name} has no published code that longtake differs from on purpose")
    return replace(requested, published=None, **{n: v for n, v in own.items() if getattr(requested, n) is None})


def _check_image_cond(requested: SamplingOptions) -> None:
    """Raise SettingsError for a blur or a CRF that cannot be."""
    blur, crf = requested.image_cond_blur, requested.image_cond_crf
    if blur is not None and not (math.isfinite(blur) and blur >= 0):
        raise SettingsError(f"--image-cond-blur must be 0 or a positive number, not {blur}")
    if crf is not None and not 0 <= crf <= MOST_CRF:
        raise SettingsError(f"--image-cond-crf must lie between 0 and {MOST_CRF}, not {crf}")


def _check_stg_mode(model: Model, requested: SamplingOptions) -> None:
    """Raise SettingsError for a mode of STG that does not exist, or for guidance that has no perturbed branch."""
    mode = requested.stg_mode
    if mode is None:
        return
    if mode not in STG_MODES:
        raise SettingsError(f"--stg-mode must be one of {', '.join(STG_MODES)}, not {mode!r}")
    if not any(guidance_of(model, requested.guidance_scale).stg_scale):
        raise SettingsError(f"the guidance of {model.name} has no perturbed branch here: leave --stg-mode out")


def _turned(size: tuple[int, int], portrait: bool | None) -> tuple[int, int]:
    height, width = size
    return size if portrait in (None, height > width) or height == width else (width, height)


def _frame_rate(model: Model, requested: float | None) -> float:
    fps, rates = model.fps if requested is None else requested, model.format.rates
    if not 0 < fps <= MOST_FPS:
        raise SettingsError(f"--fps must be a positive number up to {MOST_FPS}, not {fps}")
    if rates and fps not in rates:
        can = ", ".join(f"{rate:g}" for rate in rates)
        raise SettingsError(f"{model.name} generates {can} frames per second, not {fps:g}: use --fps {rates[0]:g}")
    return fps
