"""Contract cases: options of the built-in strategies that between them use every handoff, overlap and staircase.

c is the temporal compression of the model.
"""

from __future__ import annotations

from typing import Any

Cases = list[dict[str, Any]]
HANDOFFS: Cases = [
    dict(handoff="latents"),
    dict(handoff="pixels"),
    dict(handoff="pixels-uint8"),
    dict(handoff="pixels-uint8", overlap_source="new"),
    dict(handoff="pixels", overlap_source="blend"),
]


def defaults(c: int) -> Cases:
    """Return the defaults alone."""
    return [dict()]


def concat(c: int) -> Cases:
    """Return cases of clips whose context is concatenated by channel."""
    wide = 1 + 2 * c
    cuts = [dict(overlap=overlap, **handoff) for overlap in (1, wide) for handoff in HANDOFFS]
    return [*cuts, dict(handoff="latents", anchor=True, overlap=wide)]


def windows(c: int) -> Cases:
    """Return cases of windows whose context stays in place, or is handed over at a cut."""
    wide = 1 + 2 * c
    return [
        *concat(c),
        dict(overlap=wide),
        dict(overlap=wide, context_noise=0.1, noise_given_frames=False),
        dict(overlap=wide, context_noise=0.1, context_noise_mode="resampled"),
        dict(overlap=wide, causal_block_size=3),
        dict(overlap=wide, ar_step=2, causal_block_size=2),
        dict(overlap=0, handoff="latents-in-place"),
    ]


def soft(c: int) -> Cases:
    """Return cases of windows whose overlap is generated again."""
    wide = 1 + 2 * c
    return [dict(overlap=wide), dict(overlap=1, strength=0.9), dict(overlap=wide, causal_block_size=2)]


def looping(c: int) -> Cases:
    """Return cases of tiles."""
    wide = dict(tile=12 * c, overlap=5 * c)
    return [
        dict(),
        wide,
        dict(overlap=c),
        dict(reference=1.0),
        dict(strength=1.0, image_cond_noise_scale=0.1),
    ]


def staircases(c: int) -> Cases:
    """Return cases of staircases without end."""
    return [dict(), dict(causal_block_size=2), dict(sink_frames=2), dict(context_frames=2)]
