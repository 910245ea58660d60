"""SkyReels-V2 by the names of its own command line: a call like diffusers', on longtake's engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from longtake.engine import Rollout
from longtake.events import Frames
from longtake.geometry import frames_of_latents
from longtake.models import load
from longtake.models.base import Model, sized
from longtake.models.cache import cached
from longtake.noise import Grid
from longtake.pictures import Picture, pictures
from longtake.plan import PlanError
from longtake.plans import plan
from longtake.script import Scene, Script
from longtake.settings import rate_of, solver_of

if TYPE_CHECKING:
    from longtake.plans import Plan

# ids that people write, and the released checkpoint that they mean
MEANT = {
    "SkyworkAI/SkyReels-V2-540p": "skyreels-v2-df-14b-540p",
    "SkyworkAI/SkyReels-V2-720p": "skyreels-v2-df-14b-720p",
    "SkyworkAI/SkyReels-V2-1.3B-540p": "skyreels-v2-df-1.3b-540p",
}
OVERLAP = 17  # frames
BOTH_WAYS = (
    "causal_attention: this checkpoint attends both ways, as all released SkyReels-V2 weights do, and a mask "
    "that it was not trained for spoils its video: leave it out; causal_block_size and ar_step work without"
)


@dataclass(frozen=True)
class SkyReelsV2Output:
    """frames: uint8 (num_frames, height, width, 3)."""

    frames: Tensor


class SkyReelsV2Pipeline:
    """Text to video, image to video, first and last frame, and extension, of any length.

    `from_pretrained` takes what `longtake.load` takes: a preset, a folder, an id of the hub.
    """

    def __init__(self, model: Model):
        self.model = model

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> SkyReelsV2Pipeline:
        """Open a checkpoint. ModelError, WeightsError or HubError, all ValueError, say what to do."""
        return cls(load(MEANT.get(str(name), name), **options))

    def __call__(self, prompt: str | Sequence[str], **options: Any) -> SkyReelsV2Output:
        """All frames of a video at once; the options are those of `stream`."""
        return SkyReelsV2Output(torch.cat(list(self.stream(prompt, **options))))

    def stream(
        self,
        prompt: str | Sequence[str],
        *,
        num_frames: int = 97,
        base_num_frames: int | None = None,
        overlap_history: int | None = None,
        addnoise_condition: float = 20,
        ar_step: int = 0,
        causal_block_size: int = 1,
        causal_attention: bool = False,
        fps: float | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        shift: float | None = None,
        guidance: float | None = None,
        negative_prompt: str | None = None,
        image: Picture | None = None,
        last_image: Picture | None = None,
        video: Tensor | None = None,
        seed: int = 0,
        solver: str | None = None,
        grid: Grid | None = None,
        hand: Literal["pixels", "tape"] = "pixels",
        seam: Literal["old", "blend"] = "old",
        cache: float = 0.0,
    ) -> Iterator[Tensor]:
        """Frames uint8 (T, H, W, 3) as they are made, exactly num_frames in all.

        prompt: one, or several that share the length evenly. base_num_frames: of a window (default: the checkpoint's).
        overlap_history: frames a window knows of the one before (default: the checkpoint's, 17; 1 for image to video).
        addnoise_condition: noise on them, in thousandths.
        ar_step, causal_block_size: calls between the starts of two blocks, and latent frames in a block.
        causal_attention: ask for block-causal attention; weights that were trained for it always have it, others are
        refused. image, last_image: the first and the last frame.
        video: frames uint8 (T, H, W, 3) that this one goes on from; its last overlap_history frames are told, and only new frames come out.
        grid: how noise levels are spaced, "skyreels" (default) as in the authors' code or "diffusers" as there.
        hand: windows are told of re-encoded pixels, as in the authors' code, or keep the latents, as in diffusers.
        seam: where windows meet, a cut after the overlap or a cross-fade over it. cache: the threshold of step caching
        (see `longtake.models.cache`), 0 for none.
        Errors: PlanError names the nearest settings that work.
        """
        tall, wide = (own if asked is None else asked for own, asked in zip(self.model.size, (height, width)))
        model = cached(sized(self.model, (tall, wide)), cache)
        if causal_attention and not model.limits.causal:
            raise PlanError(BOTH_WAYS)
        overlap = model.options.get("overlap", OVERLAP) if overlap_history is None else overlap_history
        start, extend = self._start(image, video, overlap, (tall, wide))
        options = dict(
            window=self._base() if base_num_frames is None else base_num_frames, overlap=overlap,
            context=addnoise_condition / 1000, noise="call", lag=ar_step, block=causal_block_size, hand=hand, keep=seam,
        )  # fmt: skip
        own, rate = _given(steps=steps, shift=shift, grid=grid), rate_of(model, fps)
        rollout = Rollout(
            model, self._script(prompt, num_frames, rate), self._plan({**model.sampling, **options, **own}), seeds=(seed,),
            guidance=guidance, negative=negative_prompt, solver=solver_of(model, solver), fps=rate, start=start,
            extend=extend, end=None if last_image is None else pictures([last_image], (tall, wide)),
        )  # fmt: skip
        yield from (event.frames[0] for event in rollout.run() if isinstance(event, Frames))

    def _plan(self, options: dict[str, Any]) -> Plan:
        """The strategy that the kind of checkpoint can run."""
        if self.model.limits.context == "none":
            options = {**options, "overlap": 0, "hand": "tape", "context": 0.0, "keep": "old"}
            return plan("clip", **options)
        if self.model.limits.context == "beside":
            return plan("crossclip", **{**options, "context": 0.0})
        return plan("async" if options["lag"] else "sliding", **options)

    def _script(self, prompt: str | Sequence[str], frames: int, fps: float) -> Script:
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        return Script.of([Scene(p) for p in prompts], fps, frames / fps)

    def _base(self) -> int:
        return frames_of_latents(self.model.limits.view, self.model.codec.stride)

    def _start(
        self, image: Picture | None, video: Tensor | None, overlap: int, size: tuple[int, int]
    ) -> tuple[Tensor | None, bool]:
        """The frames to begin with, and whether they were shown before."""
        if image is not None and video is not None:
            raise PlanError("a video begins with an image or goes on from a video, not both")
        if video is None:
            return (None if image is None else pictures([image], size)), False
        if not 1 <= overlap <= len(video):
            raise PlanError(
                f"the video has {len(video)} frames, fewer than the overlap_history of {overlap}, or that is below 1"
            )
        return pictures(list(video[-overlap:]), size), True


def _given(**options: Any) -> dict[str, Any]:
    """Those of the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
