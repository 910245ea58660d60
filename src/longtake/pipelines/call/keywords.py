"""The keyword arguments that generate a video, with their types: what editors and type checkers see of a pipeline call.

Written by docs/build.py from `Length`, `Inputs`, `SamplingOptions` and the planners of the strategies: change those instead,
then run `make docs-reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from longtake.core.guidance_settings import Guidance
    from longtake.media.images import ImageInput


class VideoKeywords(TypedDict, total=False):
    """Length, inputs and sampling of a video, the options of its strategy, and three names of SkyReels-V2."""

    seconds: float | None
    num_frames: int | None
    endless: bool
    image: ImageInput | Sequence[ImageInput] | None
    last_image: ImageInput | Sequence[ImageInput] | None
    video: Path | str | Tensor | Sequence[Any] | None
    input_video: Path | str | Tensor | Sequence[Any] | None
    control: Path | str | Tensor | None
    anchor_image: ImageInput | Sequence[ImageInput] | None
    negative_prompt: str | Sequence[str] | None
    control_scale: float
    image_cond_blur: float | None
    image_cond_crf: int | None
    fps: float | None
    height: int | None
    width: int | None
    seed: int | Sequence[int]
    num_inference_steps: int | None
    steps: int | None
    skip_initial_inference_steps: int | None
    guidance_scale: float | Guidance | None
    guidance: float | Guidance | None
    stg_mode: str | None
    solver: str | None
    sample_posterior: bool | None
    decode_context_noise: bool | None
    soft_on_schedule: bool | None
    published: bool | None
    shift: float | None
    sigma_spacing: str | None
    sigmas: str | Sequence[float] | None
    adain: float
    adain_per: Literal["shot", "scene"]
    anchor: bool
    ar_step: int | Literal["all"]
    causal_block_size: int
    context_frames: int | Literal["all"]
    context_noise: float
    context_noise_mode: Literal["frozen", "resampled"]
    grow_view: bool
    handoff: Literal["latents-in-place", "latents", "pixels", "pixels-uint8", "pixels-floor8"]
    image_cond_noise_scale: float
    min_lag: int
    noise_given_frames: bool
    overlap: int | None
    overlap_source: Literal["old", "new", "blend"]
    reference: float
    sink_frames: int
    strength: float
    tile: int | None
    window: int | None
    base_num_frames: int | None
    overlap_history: int | None
    addnoise_condition: float | None
