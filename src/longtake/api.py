"""One call from a prompt to frames; the command line, the reel and this call resolve their settings in the same place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from longtake.engine import Frames
from longtake.given import Given
from longtake.models import load
from longtake.models.base import Model
from longtake.pictures import Picture
from longtake.script import Scene, Script
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
    **options: Any,
) -> Iterator[Tensor]:
    """Output frames as they are made: uint8 tensors (T, H, W, 3), in order, without gap. Leaving the loop stops it.

    model: a loaded model, or what `longtake.load` takes. script: a prompt (10 s if `seconds` does not say otherwise),
    scenes, the Path of a .txt or .toml file, or a Script. plan: the name of a strategy with `options` (see
    `longtake.PLANS`); what is not given is what suits the model. size: (height, width).
    image, end_image: the first frame, and the picture that the video comes to. video: what this one goes on from, a file
    or uint8 (T, H, W, 3); its frames come first, in the size and rate of the run, and `seconds` counts the new ones.
    Errors: ValueError (ScriptError, PlanError, ModelError, ...) with a sentence that says what to do.
    """
    if not isinstance(model, Model):
        model = load(model)
    if isinstance(script, str) and seconds is None and not endless:
        seconds = DEFAULT_SECONDS
    given = Given(image, end_image, Path(video) if isinstance(video, str) else video)
    settings = Settings.resolve(
        model, script, seconds=seconds, endless=endless, plan=plan, options=options, fps=fps, seed=seed,
        guidance=guidance, negative=negative, solver=solver, size=size, given=given,
    )  # fmt: skip
    for event in settings.rollout(model, given).run():
        if isinstance(event, Frames):
            yield event.frames[0]
