"""Toy runs: a strategy on the clock or the Gaussian model, whose videos say what went wrong.

Every frame of a clock shows its number, so a frame that is lost, repeated or left as noise is seen. A Gaussian model has
known statistics, so noise at a wrong sigma is seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models.model import Model
from longtake.models.toy.clock import read_numbers
from longtake.models.toy.gaussian import AMPLITUDE
from longtake.planning.limits import Limits
from longtake.planning.script import Script
from longtake.planning.strategies.registry import STRATEGIES
from longtake.planning.window import Plan


def one_scene(num_frames: int | None, fps: float = 24.0) -> Script:
    """Return a script of one scene of so many output frames (None: without end)."""
    return Script.of("anything", fps, None if num_frames is None else num_frames / fps, endless=num_frames is None)


def toy_limits(strategy: str, max_latent_frames: int) -> Limits:
    """Return the limits of a toy model that can run a registered strategy."""
    return Limits(max_latent_frames=max_latent_frames, conditioning=STRATEGIES[strategy].conditioning)


def toy_video(
    model: Model, plan: Plan, num_frames: int, solver: str = "euler", seeds: tuple[int, ...] = (0,)
) -> Tensor:
    """Generate a video and return its frames (B, 3, T, H, W), checked to come in order and without a gap."""
    parts, at = [], 0
    for event in build_rollout(model, one_scene(num_frames), plan, solver=solver, seeds=seeds).run():
        if isinstance(event, Frames):
            assert event.first == at, f"frame {event.first} came where frame {at} was due"
            at += event.video.shape[2]
            parts.append(event.video)
    assert parts, "no frame comes out"
    return torch.cat(parts, 2)


def clock_numbers(model: Model, plan: Plan, num_frames: int) -> list[int]:
    """Generate a video with a clock and return the number on each of its frames."""
    numbers: list[int] = read_numbers(toy_video(model, plan, num_frames))[0].int().tolist()
    return numbers


def gaussian_pixels(
    model: Model, plan: Plan, num_frames: int, solver: str = "euler", seeds: tuple[int, ...] = (0,)
) -> Tensor:
    """Generate a video with a Gaussian model and return its pixels in standard deviations, (B, 3, T, H, W)."""
    return toy_video(model, plan, num_frames, solver, seeds) / AMPLITUDE
