"""Non-finite latents and frames: noted on the device after every step, and read once per window, so that no step waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longtake.core.errors import NonFiniteError
from longtake.models.interfaces import Conditioning
from longtake.models.model import Model


@dataclass
class FiniteCheck:
    """The steps of one window at one resolution.

    sums: (steps, F) on the device of the latents, the sum of every latent frame after every step, which is finite only
    if the frame is. done: steps so far.
    """

    steps: int
    sums: Tensor | None = field(default=None, repr=False)
    done: int = 0

    @torch.inference_mode()
    def note(self, x: Tensor) -> None:
        """Note the latents (B C F H W) after a step, without waiting for them."""
        if self.sums is None:
            self.sums = torch.zeros(self.steps, x.shape[2], dtype=torch.float32, device=x.device)
        self.sums[self.done] = x.sum((0, 1, 3, 4), dtype=torch.float32)
        self.done += 1

    def first_bad(self) -> tuple[int, list[int]] | None:
        """Wait for the device; return the first step, from 1, after which latents were non-finite, and their columns."""
        if self.sums is None or self.sums.is_meta:
            return None
        bad = ~torch.isfinite(self.sums.cpu())
        if not bad.any():
            return None
        step = int(bad.any(1).nonzero()[0])
        return step + 1, bad[step].nonzero()[:, 0].tolist()


def check_frames(video: Tensor, first: int) -> None:
    """Raise NonFiniteError if decoded frames (B 3 T H W) hold NaN or infinity. first: the number of the first of them."""
    if video.is_meta or not video.shape[2]:
        return
    bad = ~torch.isfinite(video.sum((0, 1, 3, 4), dtype=torch.float32)).cpu()
    if bad.any():
        frame = first + int(bad.nonzero()[0])
        raise NonFiniteError(
            f"the VAE decoded output frame {frame} to NaN or infinity from finite latents: its weights are damaged, or its "
            "numbers overflow"
        )


def check_encoded(name: str, latents: Tensor) -> None:
    """Raise NonFiniteError if what an encoder returned holds NaN or infinity. name: of what was encoded."""
    if not latents.is_meta and not bool(torch.isfinite(latents.sum(dtype=torch.float32))):
        raise NonFiniteError(
            f"{name} is encoded to NaN or infinity: the weights of its encoder are damaged, or its numbers overflow "
            "(float16 does where bfloat16 and float32 do not: use --dtype bf16)"
        )


def non_finite_latents(
    model: Model, cond: Conditioning, window: int, step: int, steps: int, frames: Sequence[int]
) -> NonFiniteError:
    """Return the error of latents that became non-finite. frames: the output frames that they stand for, in order."""
    shown = f"output frames {frames[0]} to {frames[-1]}" if frames else "keyframes"
    shown = f"output frame {frames[0]}" if len(frames) == 1 else shown
    causes = [f"{name} at strength {strength:g} (use a lower one)" for name, strength in cond.loras]
    causes = [f"the LoRA {' or '.join(causes)}"] if causes else []
    if model.features.dtype == torch.float16:
        causes.insert(0, "numbers beyond 65504, where float16 overflows (use --dtype bf16)")
    causes += ["damaged weights", "a guidance scale or timestep shift far from the model's own"]
    return NonFiniteError(
        f"window {window} (from 0), step {step} of {steps}: the latents of {shown} are NaN or infinite; likely causes: "
        + ", ".join(causes)
    )
