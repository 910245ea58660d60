"""One call from a prompt to frames; the command line, the reel and this call resolve their settings in the same place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from longtake.engine import Frames
from longtake.models import load
from longtake.models.base import Model
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
    **options: Any,
) -> Iterator[Tensor]:
    """Output frames as they are made: uint8 tensors (T, H, W, 3), in order, without gap. Leaving the loop stops it.

    model: a loaded model, or what `longtake.load` takes. script: a prompt (10 s if `seconds` does not say otherwise),
    scenes, the Path of a .txt or .toml file, or a Script. plan: the name of a strategy with `options` (see
    `longtake.PLANS`); what is not given is what suits the model.
    Errors: ValueError (ScriptError, PlanError, ModelError, ...) with a sentence that says what to do.
    """
    if not isinstance(model, Model):
        model = load(model)
    if isinstance(script, str) and seconds is None and not endless:
        seconds = DEFAULT_SECONDS
    settings = Settings.resolve(
        model, script, seconds=seconds, endless=endless, plan=plan, options=options, fps=fps, seed=seed,
        guidance=guidance, negative=negative, solver=solver,
    )  # fmt: skip
    for event in settings.rollout(model).run():
        if isinstance(event, Frames):
            yield event.frames[0]
