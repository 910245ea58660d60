"""Keyframe columns: latent frames that a window sees and never shows, such as a given last frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from longtake.planning.window import LatentSource, Role, Window


@dataclass(frozen=True)
class KeyframeColumn:
    """A latent frame for a window to see. position: in latent frames. strength: 1 is clean, less starts at a higher sigma."""

    source: LatentSource
    position: float
    strength: float = 1.0


def with_end_frame(window: Window, end_latents: int, at: float | None = None) -> Window:
    """Return the window with the `end_latents` latents of the given last frame as clean columns.

    The first stands behind the frames that the window shows, or at the position `at`, counted from the start of the clip.
    """
    shown = [p for p, role in zip(window.positions, window.role) if role != "keyframe"]
    first = shown[-1] + 1 if at is None else shown[0] + at - window.frames[0]
    return with_keyframes(window, [KeyframeColumn(LatentSource("end_frame", i), first + i) for i in range(end_latents)])


def with_keyframes(window: Window, columns: Sequence[KeyframeColumn]) -> Window:
    """Return the window with more columns behind its frames: each starts at sigma 1 - strength and falls with the rest."""
    if not columns:
        return window
    seen, count = len(window.frames), len(columns)
    sigmas = window.sigmas.new_zeros(len(window.sigmas), seen + count)
    sigmas[:, :seen] = window.sigmas
    for i, column in enumerate(columns):
        sigmas[:, seen + i] = window.sigmas.max(1).values.clamp_max(1 - column.strength)
    blend = None
    if window.blend is not None:
        blend = window.blend.new_ones(seen + count)
        blend[:seen] = window.blend
    numbers = range(window.frames[-1] + 1, window.frames[-1] + 1 + count)
    roles: list[Role] = ["keyframe"] * count
    return replace(
        window,
        frames=(*window.frames, *numbers),
        sigmas=sigmas,
        positions=(*window.positions, *(column.position for column in columns)),
        role=(*window.role, *roles),
        block=(*window.block, *[window.block[-1] + 1] * count),
        blend=blend,
        sources={**window.sources, **{number: column.source for number, column in zip(numbers, columns)}},
    )
