"""Previews of a window while its steps run: the clean latents that it is heading for, as a strip of small images.

The images are read from the latents by a linear map (see `longtake.models.runtime.latent_preview`), so that nothing is
decoded. They only look at the latents: a video is the same with and without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from longtake.core.errors import SettingsError
from longtake.core.platform import replace_file
from longtake.engine.events import StepDone, WindowStarted
from longtake.models.model import Model
from longtake.models.runtime.latent_preview import LatentPreview, clean_estimate

if TYPE_CHECKING:
    from PIL.Image import Image

Target = Callable[["Image", StepDone], None]
Preview = Target | str | Path
PREVIEW_FILES = (".png", ".jpg", ".jpeg", ".webp")
FRAMES, HEIGHT = 8, 96  # frames of a strip at most, and its height in pixels
EVERY = 0.5  # seconds between two previews that are written or shown
SHARE = 0.01  # of the time that they may cost


@dataclass(frozen=True)
class _State:
    """The latents (1 C F h w) after a step and the sigmas (F,) that they hold, and those before it."""

    event: StepDone
    now: tuple[Tensor, Tensor]
    before: tuple[Tensor, Tensor] | None

    def clean(self) -> Tensor:
        """Estimate the clean latents (C F h w)."""
        if self.before is None or self.before[0].shape != self.now[0].shape:
            return self.now[0][0]
        return clean_estimate(self.before[0], self.now[0], self.before[1], self.now[1])[0]


@dataclass
class PreviewStrip:
    """Draws the clean latents that a window is heading for after a step.

    target: called with a strip of at most `FRAMES` images side by side, and the step. every: least number of seconds
    between two calls (0: after every step); where drawing is slow they become rarer, so that they cost at most `SHARE` of
    the time.
    """

    model: Model
    target: Target
    every: float = 0.0
    _before: tuple[Tensor, Tensor] | None = field(default=None, init=False)
    _waiting: _State | None = field(default=None, init=False)
    _due: float = field(default=-1e9, init=False)

    def see(self, event: Any) -> None:
        """Follow the events of a generation."""
        if isinstance(event, WindowStarted):
            self._before = None
        elif isinstance(event, StepDone) and event.latents is not None and event.sigmas is not None:
            now = event.latents[:1].clone(), event.sigmas
            self._waiting, self._before = _State(event, now, self._before), now
            if time.monotonic() >= self._due:
                self.finish()

    def finish(self) -> None:
        """Draw the last step, unless it is drawn."""
        if self._waiting is not None:
            state, self._waiting = self._waiting, None
            factors = LatentPreview.of(self.model.vae, self.model.device)  # fitted once
            begun = time.monotonic()
            self.target(_strip(factors, state.clean()), state.event)
            now = time.monotonic()
            self._due = now + max(self.every, (now - begun) / SHARE) if self.every else now


def _strip(factors: LatentPreview, latents: Tensor) -> Image:
    """Draw some of the latents (C F h w) side by side."""
    from PIL import Image

    count = latents.shape[1]
    some = [round(i * (count - 1) / (FRAMES - 1)) for i in range(FRAMES)]
    images = factors.images(latents[:, sorted(set(some))])
    strip = Image.fromarray(torch.cat(list(images), 1).numpy())
    return strip.resize((round(strip.width * HEIGHT / strip.height), HEIGHT), Image.Resampling.BICUBIC)


def preview_file(name: str, file: object) -> Path:
    """Return the path of a preview. SettingsError, which names the option, if it is no image file."""
    if isinstance(file, str | Path) and Path(file).suffix.lower() in PREVIEW_FILES:
        return Path(file)
    raise SettingsError(f"{name} must be a function, or a file that ends with {', '.join(PREVIEW_FILES)}, not {file!r}")


def strip_of(model: Model, preview: Preview) -> PreviewStrip:
    """Return what draws a preview: after every step for a function, at most every `EVERY` seconds into a file."""
    if callable(preview):
        return PreviewStrip(model, preview)
    path = Path(preview)
    return PreviewStrip(model, lambda image, step: write_preview(path, image), EVERY)


def write_preview(path: Path, image: Image) -> None:
    """Write a preview; a viewer never sees half of it."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".png":
        image.save(part, compress_level=1)  # five times as quick
    else:
        image.save(part)
    replace_file(part, path)
