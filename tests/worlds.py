"""Running a plan on a world and reading what it shows."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.engine import Rollout
from longtake.events import Frames
from longtake.models.base import Model
from longtake.models.clock import _read as read_clock
from longtake.models.gauss import AMPLITUDE
from longtake.plan import Limits
from longtake.plans import PLANS, plan
from longtake.plans.chunks import Chunks
from longtake.script import Script


def script(frames: int | None, fps: float = 24.0) -> Script:
    """One scene of so many frames."""
    return Script.of("anything", fps, None if frames is None else frames / fps, endless=frames is None)


def shown(model: Model, plan_, frames: int, solver: str = "euler", seeds=(0,)) -> Tensor:
    """The video (B 3 T H W) as decoded, checked to be in order without gap."""
    parts, at = [], 0
    for event in Rollout(model, script(frames), plan_, solver=solver, seeds=seeds).run():
        if isinstance(event, Frames):
            assert event.first == at
            at += event.video.shape[2]
            parts.append(event.video)
    return torch.cat(parts, 2)


def count(model: Model, plan_, frames: int) -> list[int]:
    """The numbers that a clock shows."""
    return read_clock(shown(model, plan_, frames))[0].int().tolist()


def pixels(model: Model, plan_, frames: int, **options) -> Tensor:
    """What a gauss world shows, in standard deviations."""
    return shown(model, plan_, frames, **options) / AMPLITUDE


def limits_for(name: str, view: int) -> Limits:
    """Limits of a world that can run the named strategy."""
    return Limits(view=view, context="beside" if PLANS[name].defaults.get("beside") else "in place")


def is_chunks(name: str) -> bool:
    """Whether a strategy is one of windows (and so has an overlap and hand-overs)."""
    return PLANS[name].planner is Chunks and not PLANS[name].defaults.get("single")


def variants(name: str, stride: int) -> list[dict]:
    """Options of a strategy that between them use every hand-over, seam and mixture of it."""
    if name == "looping":
        wide = dict(tile=12 * stride, overlap=5 * stride)
        return [dict(), wide, dict(overlap=stride), dict(reference=1.0), dict(strength=1.0, cond_noise=0.1)]
    if not is_chunks(name):
        return [dict()] if name == "clip" else [dict(), dict(block=2), dict(sinks=2), dict(past=2)]
    seam = 1 + 2 * stride
    if name == "soft":
        return [dict(overlap=seam), dict(overlap=1, strength=0.9), dict(overlap=seam, block=2)]
    hands = [
        dict(hand="latents"),
        dict(hand="pixels"),
        dict(hand="pixels8"),
        dict(hand="pixels8", keep="new"),
        dict(hand="pixels", keep="blend"),
    ]
    if name == "crossclip":
        return [dict(overlap=o, **h) for o in (1, seam) for h in hands] + [
            dict(hand="latents", anchor=True, overlap=seam)
        ]
    rest = [dict(overlap=seam), dict(overlap=seam, context=0.1), dict(overlap=seam, context=0.1, noise="call")]
    rest += [dict(overlap=seam, block=3), dict(overlap=seam, lag=2, block=2), dict(overlap=0, hand="tape")]
    rest += [dict(hand="latents", anchor=True, overlap=seam)]
    return [dict(overlap=o, **h) for o in (1, seam) for h in hands] + rest


__all__ = ["PLANS", "count", "is_chunks", "limits_for", "pixels", "plan", "script", "shown", "variants"]
