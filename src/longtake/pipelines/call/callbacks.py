"""What a pipeline call does with the events of a generation: callbacks, preview images, a progress bar, interruption."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.core.errors import SettingsError
from longtake.engine.events import Frames, StepDone
from longtake.models.model import Model
from longtake.pipelines.call.preview import Preview, preview_file, strip_of
from longtake.pipelines.call.prompts import python_words

StepCallback = Callable[[Any, int, float, dict[str, Any]], Mapping[str, Any] | None]
FramesCallback = Callable[[Tensor, int], None]


@dataclass
class Callbacks:
    """The callbacks of one call.

    on_step_end: called with (pipeline, step, timestep, {"latents", "window", "sigmas"}) after every step; a mapping with
    other "latents" that it returns replaces them. on_frames: called with frames, uint8 (T, H, W, 3), and the number of the
    first. preview: called with a strip of small images and the step, or a .png file that is written twice a second.
    recorded: the run is recorded, so that changed latents are refused.
    """

    on_step_end: StepCallback | None = None
    on_frames: FramesCallback | None = None
    preview: Preview | None = None
    recorded: bool = False

    def __post_init__(self) -> None:
        for name, given in (("callback_on_step_end", self.on_step_end), ("callback_on_frames", self.on_frames)):
            if given is not None and not callable(given):
                raise SettingsError(f"{name} must be a function, not {given!r}")
        if self.preview is not None and not callable(self.preview):
            preview_file("preview", self.preview)

    def followed(self, events: Iterator[Any], pipeline: Any, model: Model) -> Generator[Any, None, None]:
        """Yield the events of a generation after the callbacks saw them; ends after an event that interrupted it."""
        drawn = None if self.preview is None else strip_of(model, self.preview)
        with python_words(), closing(events):  # type: ignore[type-var]
            for event in events:
                if drawn is not None:
                    drawn.see(event)
                if isinstance(event, StepDone):
                    self._step(event, pipeline)
                elif isinstance(event, Frames) and self.on_frames is not None:
                    self.on_frames(event.frames[0], event.first)
                yield event
                if pipeline is not None and pipeline.interrupted:
                    break
            if drawn is not None:
                drawn.finish()

    def _step(self, event: StepDone, pipeline: Any) -> None:
        if self.on_step_end is None or event.latents is None or event.sigmas is None:
            return
        timestep = float(event.sigmas.max()) * 1000
        given = {"latents": event.latents, "window": event.index, "sigmas": event.sigmas}
        untouched = event.latents.clone() if self.recorded else None
        with torch.inference_mode():  # so that the callback may also write into the latents
            answer = self.on_step_end(pipeline, event.step - 1, timestep, given)
            new = _answered(answer, event.latents)
            if untouched is not None:
                if not torch.equal(untouched, new):
                    raise SettingsError(
                        "callback_on_step_end changed the latents of a recorded run, which could then not be resumed to "
                        "the same frames: call the pipeline without recording, or leave the latents as they are"
                    )
            elif new is not event.latents:
                event.latents.copy_(new)


def _answered(answer: Any, latents: Tensor) -> Tensor:
    """Return the latents that a callback answered with: its own, or those that it was given."""
    if answer is not None and not isinstance(answer, Mapping):
        raise SettingsError(
            f'callback_on_step_end must return None or a dict, such as {{"latents": ...}}, not a {type(answer).__name__}'
        )
    new = latents if answer is None else answer.get("latents", latents)
    if not isinstance(new, Tensor):
        raise SettingsError(f"callback_on_step_end returned latents that are no tensor, but a {type(new).__name__}")
    if new.shape != latents.shape:
        raise SettingsError(
            f"callback_on_step_end returned latents of shape {tuple(new.shape)}; they have the shape {tuple(latents.shape)}"
        )
    return new


@dataclass
class ProgressBar:
    """A bar on standard error, counted in output frames. config: disable, desc; shown where standard error is a terminal."""

    config: Mapping[str, Any]
    frames: int | None

    def shown(self, events: Generator[Any, None, None]) -> Generator[Any, None, None]:
        """Yield all events while the bar follows them."""
        with closing(events):
            yield from self._shown(events)

    def _shown(self, events: Iterator[Any]) -> Iterator[Any]:
        if self.config.get("disable", not sys.stderr.isatty()):
            yield from events
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(self.config.get("desc", "generating"), total=self.frames)
            for event in events:
                if isinstance(event, StepDone):
                    bar.update(task, description=f"window {event.index + 1}, step {event.step}/{event.steps}")
                elif isinstance(event, Frames):
                    bar.update(task, completed=event.first + event.video.shape[2])
                yield event
