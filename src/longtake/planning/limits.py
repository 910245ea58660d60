"""Limits: what a model can generate in one window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Conditioned = Literal["inpaint", "concat", "none"]


@dataclass(frozen=True)
class Limits:
    """What a plan must respect to suit a model.

    max_latent_frames: latent frames that one step may see. block: latent frames that are denoised together (block-causal
    checkpoints).
    per_frame_sigma: whether the frames of one step may have different sigmas.
    conditioning: how the model takes context frames. "inpaint": in place, as columns whose sigma stays constant;
    "concat": by channel concatenation (`Session.begin`); "none": a text-to-video checkpoint, which makes single clips.
    causal: attention is block-causal, and keys and values of clean frames are cached.
    end: where a given last frame goes: "behind" the last latent frame of the window, as one more (SkyReels-V2), or "at" the
    last output frame (LTX).
    causal_positions: the position of a latent is that of its first output frame; see `longtake.core.geometry.place_of_frame`.
    """

    max_latent_frames: int
    block: int = 1
    per_frame_sigma: bool = True
    conditioning: Conditioned = "inpaint"
    causal: bool = False
    end: Literal["behind", "at"] = "behind"
    causal_positions: bool = True
