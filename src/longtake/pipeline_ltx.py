"""LTX-Video in Python: pictures and clips at any frame, a last frame, and a video gone on from, forward or backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from longtake.engine import Rollout
from longtake.events import Frames
from longtake.geometry import frames_of_latents, latents_of_frames
from longtake.guidance import Guidance
from longtake.models import load
from longtake.models.base import Model
from longtake.pipelines import Picture, pictures
from longtake.plan import PlanError
from longtake.plans import PLANS, chosen, plan
from longtake.plans.conditioned import Item
from longtake.script import Scene, Script


@dataclass(frozen=True)
class Condition:
    """A picture, or a clip as uint8 (T, H, W, 3) with T = 1 + 8 k, at an output frame; strength 1 holds it as it is."""

    picture: Picture | None = None
    video: Tensor | None = None
    frame: int = 0
    strength: float = 1.0

    def __post_init__(self):
        if (self.picture is None) == (self.video is None):
            raise PlanError("a condition is a picture or a video, one of them")

    def item(self, size: tuple[int, int]) -> Item:
        """As the engine takes it."""
        shown: list[Any] = [self.picture] if self.video is None else list(self.video)
        return Item(self.frame, pictures(shown, size), self.strength)


@dataclass(frozen=True)
class LTXVideoOutput:
    """frames: uint8 (num_frames, height, width, 3)."""

    frames: Tensor


class LTXVideoPipeline:
    """Text to video with conditions, of any length. `from_pretrained` takes what `longtake.load` takes."""

    def __init__(self, model: Model):
        self.model = model

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> LTXVideoPipeline:
        """Open a checkpoint. ModelError, WeightsError or HubError, all ValueError, say what to do."""
        return cls(load(name, **options))

    def __call__(self, prompt: str | Sequence[str], **options: Any) -> LTXVideoOutput:
        """All frames of a video at once; the options are those of `stream`."""
        return LTXVideoOutput(torch.cat(list(self.stream(prompt, **options))))

    def stream(
        self,
        prompt: str | Sequence[str],
        *,
        num_frames: int = 121,
        image: Picture | None = None,
        last_image: Picture | None = None,
        conditions: Sequence[Condition] = (),
        video: Tensor | None = None,
        extend: Literal["forward", "backward"] = "forward",
        told: int = 17,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        seed: int = 0,
        guidance: float | Guidance | None = None,
        negative_prompt: str | None = None,
        solver: str | None = None,
        strategy: str | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """Exactly num_frames frames, uint8 (T, height, width, 3), as they are made; prompts share the length.

        image, last_image: the first and the last frame. conditions: what stands at other frames. video: uint8 frames
        (T, H, W, 3) that the new ones follow, or with extend="backward" precede; `told` of them are told, 1 + 8 k, and
        only new frames come out. strategy, options: of the plan; by default one clip if it fits, else what suits the
        model. Errors: PlanError names the nearest settings that work.
        """
        size = self._size(height or self.model.size[0], width or self.model.size[1])
        model, rate = replace(self.model, size=size), fps or self.model.fps
        shown = list(conditions) + ([] if image is None else [Condition(image)])
        shown += [] if last_image is None else [Condition(last_image, frame=num_frames - 1)]
        start, total = None, num_frames
        if video is not None:
            if not 1 <= told <= len(video):
                raise PlanError(f"the video has {len(video)} frames, of which {told} cannot be told")
            if extend == "forward":
                start = pictures(list(video[-told:]), size)
            else:
                shown.append(Condition(video=video[:told], frame=num_frames))
                total += told
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        rollout = Rollout(
            model,
            Script.of([Scene(text) for text in prompts], rate, total / rate),
            self._plan(strategy, options, total + (told if start is not None else 0)),
            seeds=(seed,),
            guidance=guidance,
            negative=negative_prompt,
            solver=solver or model.solver,
            fps=rate,
            start=start,
            extend=start is not None,
            items=[condition.item(size) for condition in shown],
        )
        return _first(rollout, num_frames)

    def _plan(self, strategy: str | None, options: dict[str, Any], frames: int) -> Any:
        """The strategy asked for; else one clip where it fits into the model's window, else what suits the model."""
        stride, model = self.model.codec.stride, self.model
        window = options.get("window") or model.options.get("window") or frames_of_latents(model.limits.view, stride)
        one = latents_of_frames(frames, stride) <= latents_of_frames(window, stride)
        name = strategy or ("clip" if one else model.plan)
        own = model.options if name == model.plan else model.sampling
        known = PLANS[name].planner.__dataclass_fields__ if name in PLANS else {}  # type: ignore[attr-defined]
        return plan(name, **chosen({key: value for key, value in own.items() if key in known}, options))

    def _size(self, height: int, width: int) -> tuple[int, int]:
        unit = self.model.codec.scale * (1 if self.model.refine is None else self.model.refine.scale)
        if min(height, width) < 1 or height % unit or width % unit:
            near = " x ".join(str(max(unit, round(side / unit) * unit)) for side in (height, width))
            raise PlanError(f"{height} x {width} pixels are not whole latents of {unit} x {unit}: use {near}")
        return height, width


def _first(rollout: Rollout, count: int) -> Iterator[Tensor]:
    """The first `count` frames that a rollout shows."""
    for event in rollout.run():
        if isinstance(event, Frames):
            yield event.frames[0][: count - event.first]
            if event.first + event.video.shape[2] >= count:
                return
