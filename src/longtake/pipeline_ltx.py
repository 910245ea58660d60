"""LTX-Video in Python: pictures and clips at any frame, a last frame, and a video gone on from, forward or backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from longtake.engine import Rollout
from longtake.events import Frames
from longtake.given import Told
from longtake.guidance import Guidance
from longtake.models import load
from longtake.models.base import Model, paced, sized
from longtake.pipelines import Picture, pictures
from longtake.plan import PlanError
from longtake.plans.conditioned import Item
from longtake.script import Scene, Script
from longtake.settings import by_tokens, plan_of, rate_of


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
        only new frames come out. strategy, options: of the plan; by default what suits the model, in one window if it
        fits. Errors: PlanError names the nearest settings that work.
        """
        size, rate = (height or self.model.size[0], width or self.model.size[1]), rate_of(self.model, fps)
        model = paced(sized(self.model, size), rate)
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
        plan = plan_of(model, strategy or model.plan, options)
        if "shift" not in options:
            plan = by_tokens(model, plan, total, Told(start, extend=start is not None))
        rollout = Rollout(
            model,
            Script.of([Scene(text) for text in prompts], rate, total / rate),
            plan,
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


def _first(rollout: Rollout, count: int) -> Iterator[Tensor]:
    """The first `count` frames that a rollout shows."""
    for event in rollout.run():
        if isinstance(event, Frames):
            yield event.frames[0][: count - event.first]
            if event.first + event.video.shape[2] >= count:
                return
