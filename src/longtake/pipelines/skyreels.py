"""SkyReels-V2 as a pipeline like those of diffusers, with the parameter names of its own command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from longtake.core.errors import PlanError, SettingsError
from longtake.core.geometry import frames_of_latents
from longtake.core.options import check_value
from longtake.models.runtime.step_cache import with_step_cache
from longtake.pipelines.call.keywords import VideoKeywords
from longtake.pipelines.call.prompts import own_names
from longtake.pipelines.pipeline import Pipeline, Started

# short ids that stand for a released checkpoint
SHORT_IDS = {
    "SkyworkAI/SkyReels-V2-540p": "skyreels-v2-df-14b-540p",
    "SkyworkAI/SkyReels-V2-720p": "skyreels-v2-df-14b-720p",
    "SkyworkAI/SkyReels-V2-1.3B-540p": "skyreels-v2-df-1.3b-540p",
}
OVERLAP, NUM_FRAMES = 17, 97  # context frames of a window, and frames of a video, as published
BIDIRECTIONAL = (
    "causal_attention: this checkpoint has bidirectional attention, as all released SkyReels-V2 weights do, and a mask "
    "that it was not trained for spoils its video. Leave it out; causal_block_size and ar_step work without it."
)


class SkyReelsKeywords(VideoKeywords, total=False):
    """The keyword arguments of every pipeline, and more names of the SkyReels-V2 command line."""

    causal_attention: bool
    overlap_mode: Literal["pixels", "latents"]
    overlap_blend: bool
    step_cache: float


class SkyReelsV2Pipeline(Pipeline):
    """Text to video, image to video, first and last frame, and video extension, of any length.

    `from_pretrained` takes what `longtake.load` takes: a preset, a folder, an id of the hub. The call takes what every
    `Pipeline` takes, and these names of the SkyReels-V2 command line:

    num_frames: 97 where no length is given. base_num_frames: frames of a window (default: the checkpoint's).
    overlap_history: context frames of a window, which the one before generated (default: the checkpoint's, 17; 1 for image
    to video). addnoise_condition: noise on them, in thousandths of sigma (20). ar_step, causal_block_size: model calls
    between the starts of two blocks, and latent frames in a block. causal_attention: ask for block-causal attention.
    Weights trained for it always have it, others are refused. video: its last overlap_history frames are context; only
    new frames come out. overlap_mode: context frames are encoded anew from "pixels", as in the authors' code, or stay
    "latents", as in diffusers. overlap_blend: cross-fade the overlap instead of cutting behind it. step_cache: threshold of
    step caching, 0 to turn it off (see `longtake.models.runtime.step_cache`).
    """

    family = "wan"
    other_names = SHORT_IDS

    def start(self, script: Any, *, strategy: str | None = None, step_cache: float = 0.0, **options: Any) -> Started:
        """Resolve the arguments of one video under the names of SkyReels-V2; nothing is generated yet."""
        if strategy is not None:
            return super().start(script, strategy=strategy, **options)
        if options.get("num_frames") is None and options.get("seconds") is None and isinstance(script, str):
            options["num_frames"] = NUM_FRAMES
        check_value("step_cache", step_cache, "float")
        pipeline = self._with_model(with_step_cache(self.model, step_cache))
        name, chosen = pipeline.strategy_options(options)
        return Pipeline.start(pipeline, script, strategy=name, **chosen)

    def strategy_options(self, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the strategy that the checkpoint can run, and the options under its names. PlanError for what cannot be."""
        given = own_names(options)
        if options.get("addnoise_condition") is None:
            given |= {"context_noise": given.get("context_noise", 0.02), "context_noise_mode": "resampled"}
        if given.pop("causal_attention", False) and not self.model.limits.causal:
            raise PlanError(BIDIRECTIONAL)
        overlap = given.pop("overlap", self.model.defaults.strategy_options.get("overlap", OVERLAP))
        video = given.get("video")
        if isinstance(video, Tensor) and not 1 <= overlap <= len(video):
            raise PlanError(
                f"overlap_history is {overlap}, but must lie between 1 and the {len(video)} frames of the video"
            )
        mode, blend = given.pop("overlap_mode", "pixels"), given.pop("overlap_blend", False)
        if mode not in ("pixels", "latents"):
            raise SettingsError(f"overlap_mode must be pixels or latents, not {mode!r}")
        check_value("overlap_blend", blend, "bool")
        published = dict(
            window=given.pop("window", self._base()), overlap=overlap, context_noise=given.pop("context_noise"),
            context_noise_mode=given.pop("context_noise_mode"), ar_step=given.pop("ar_step", 0), causal_block_size=given.pop("causal_block_size", 1),
            handoff="pixels" if mode == "pixels" else "latents-in-place",
            overlap_source="blend" if blend else "old",
        )  # fmt: skip
        if self.model.limits.conditioning == "none":
            none = dict(overlap=0, handoff="latents-in-place", context_noise=0.0, overlap_source="old")
            return "clip", {**published, **none, **given}
        if self.model.limits.conditioning == "concat":
            return "clip-conditioned", {**published, "context_noise": 0.0, **given}
        return "async" if published["ar_step"] else "sliding", {**published, **given}

    def _base(self) -> int:
        return frames_of_latents(self.model.limits.max_latent_frames, self.model.vae.temporal_compression)
