"""The latents in flight: for each latent frame of a clip its value, its sigma and the solver's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from longtake.core.noise import Purpose, per_frame, renoise
from longtake.core.solvers import SolverState
from longtake.planning.window import Window

Draw = Callable[[Purpose, Sequence[int], int], Tensor]  # (purpose, latent frames, step) -> noise (B, C, F, H, W)


@dataclass
class LatentFrame:
    """One latent frame: value (B, C, H, W) at noise level `sigma` (0: clean).

    solver_state: what the solver remembers of it, without the frame axis.
    """

    value: Tensor
    sigma: float
    solver_state: SolverState | None = None


@dataclass
class LatentBuffer:
    """The latent frames of one clip that are in view. done: how many were finished so far, in order."""

    frames: dict[int, LatentFrame] = field(default_factory=dict)
    done: int = 0

    def put(self, latents: Mapping[int, Tensor]) -> None:
        """Insert clean latents (B, C, H, W) by frame."""
        self.frames |= {f: LatentFrame(value, 0.0) for f, value in latents.items()}

    def clean(self, window: Window) -> dict[int, Tensor]:
        """Return the clean frames in view, {frame: (B, C, H, W)}."""
        return {f: self.frames[f].value for f in window.frames if f in self.frames and self.frames[f].sigma == 0}

    def gather(self, window: Window, draw: Draw) -> tuple[Tensor, SolverState | None]:
        """Stack x (B, C, F, H, W) at the sigmas of the window's first row, with the solver's state of it.

        A new frame is pure noise, whatever its first sigma, and so is one that is concatenated by channel. Any other frame
        is re-noised to its sigma, which drops its solver state.
        """
        new = [f for f, role in zip(window.frames, window.role) if f not in self.frames or role == "concat"]
        if new:
            noise = draw("start", new, 0)
            for i, f in enumerate(new):
                self.frames[f] = LatentFrame(noise[:, :, i], float(window.sigmas[0, window.frames.index(f)]))
        now = self._sigmas(window)
        if (window.sigmas[0] < now - 1e-12).any():
            raise AssertionError("a plan cannot lower a sigma without a model call")
        x = torch.stack([self.frames[f].value for f in window.frames], 2)
        raised = window.sigmas[0] > now + 1e-12
        keyframe = torch.tensor([role == "keyframe" for role in window.role])
        x = self._renoised(x, window, now, raised & ~window.moves & ~keyframe, "context", draw, 0)
        x = self._renoised(x, window, now, raised & window.moves & ~keyframe, "renoise", draw, 0)
        x = self._renoised(x, window, now, raised & keyframe, "keyframe", draw, 0)
        return x, self._solver_state(window, raised)

    def with_context_noise(self, x: Tensor, window: Window, step: int, draw: Draw) -> Tensor:
        """Prepare the context frames of x for a step, as the window says; frozen context noise is left as it is."""
        if window.image_cond_noise_scale:
            return self._with_cond_noise(x, window, step, draw)
        if window.context_noise_mode == "resampled" and step:
            return self._resample_context_noise(x, window, step, draw)
        return x

    def _resample_context_noise(self, x: Tensor, window: Window, step: int, draw: Draw) -> Tensor:
        """Draw the noise on the context frames of x again (SkyReels-V2 addnoise_condition)."""
        now = self._sigmas(window)
        which = (window.sigmas[0] > now) & ~window.moves
        clean = torch.stack([self.frames[f].value for f in window.frames], 2)
        return torch.where(per_frame(which, x), self._renoised(clean, window, now, which, "context", draw, step), x)

    def _with_cond_noise(self, x: Tensor, window: Window, step: int, draw: Draw) -> Tensor:
        """Add noise of std scale * sigma_max**2 to clean context, for which the model still receives sigma 0 (LTX-Video)."""
        at = (window.sigmas == 0).all(0).nonzero()[:, 0]
        if not len(at):
            return x
        frames = [window.frames[i] for i in at.tolist()]
        noise = draw("context", frames, step).to(x)
        clean = torch.stack([self.frames[f].value for f in frames], 2)
        x = x.clone()
        x[:, :, at] = clean + window.image_cond_noise_scale * float(window.sigmas[step].max()) ** 2 * noise
        return x

    def _renoised(
        self, x: Tensor, window: Window, now: Tensor, which: Tensor, purpose: Purpose, draw: Draw, step: int
    ) -> Tensor:
        at = which.nonzero()[:, 0]
        if not len(at):
            return x
        noise = draw(purpose, [window.frames[i] for i in at.tolist()], step)
        x = x.clone()
        x[:, :, at] = renoise(x[:, :, at], noise, now[at], window.sigmas[0, at])
        return x

    def _sigmas(self, window: Window) -> Tensor:
        return torch.tensor([self.frames[f].sigma for f in window.frames], dtype=torch.float64)

    def _solver_state(self, window: Window, raised: Tensor) -> SolverState | None:
        states = [None if up else self.frames[f].solver_state for f, up in zip(window.frames, raised.tolist())]
        some = next((state for state in states if state is not None), None)
        if some is None:
            return None
        blank = {name: torch.zeros_like(value) for name, value in some.items()}
        filled = [state or blank for state in states]
        return {name: torch.stack([s[name] for s in filled], 2 if some[name].ndim == 4 else 0) for name in some}

    def store(
        self, window: Window, x: Tensor, solver_state: SolverState | None, ends_clip: bool = False
    ) -> dict[int, Tensor]:
        """Keep the frames that a window moved, forget those out of view, and return those that are now final, in order.

        ends_clip: no later window revises any frame, so revisable ones are final too.
        """
        moves = window.moves.tolist()
        for i, f in enumerate(window.frames):
            if moves[i]:
                self.frames[f] = self._stored(window, i, x, solver_state)
        shown = len(window.frames) - window.role.count("keyframe")
        final = self._final(window.frames[shown - 1] - (0 if ends_clip else window.revisable))
        for f in [f for f in self.frames if f not in window.frames[:shown]]:
            del self.frames[f]
        return final

    def remaining(self) -> dict[int, Tensor]:
        """Return, as final, the clean frames that were kept back for a window that will not come."""
        return self._final(max(self.frames, default=-1))

    def _final(self, newest: int) -> dict[int, Tensor]:
        final = {}
        while self.done <= newest and self.done in self.frames and self.frames[self.done].sigma == 0:
            final[self.done] = self.frames[self.done].value
            self.done += 1
        return final

    def _stored(self, window: Window, i: int, x: Tensor, solver_state: SolverState | None) -> LatentFrame:
        f, value, sigma = window.frames[i], x[:, :, i].clone(), float(window.sigmas[-1, i])
        if window.blend is not None and self.frames[f].sigma == 0:
            value = torch.lerp(self.frames[f].value, value, float(window.blend[i]))
        if solver_state is None or sigma == 0:
            return LatentFrame(value, sigma)
        share = {name: (t[:, :, i] if t.ndim == 5 else t[i]).clone() for name, t in solver_state.items()}
        return LatentFrame(value, sigma, share)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return every frame as "frame.N" with its sigma, and the solver's state as "solver.N.name"."""
        tensors = {f"frame.{f}": frame.value for f, frame in self.frames.items()}
        for f, frame in self.frames.items():
            tensors |= {f"solver.{f}.{name}": value for name, value in (frame.solver_state or {}).items()}
        return tensors, {"done": self.done, "sigmas": {str(f): frame.sigma for f, frame in self.frames.items()}}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        self.done = facts["done"]
        self.frames = {int(f): LatentFrame(tensors[f"frame.{f}"], sigma) for f, sigma in facts["sigmas"].items()}
        for key, value in tensors.items():
            kind, number, *name = key.split(".")
            if kind == "solver":
                frame = self.frames[int(number)]
                frame.solver_state = {**(frame.solver_state or {}), name[0]: value}
