"""The latents in flight: for each latent frame of a take its value, its noise level and what the solver remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from longtake.noise import lift, per_frame
from longtake.plan import Window
from longtake.solve import Memory

Purpose = Literal["start", "lift", "context", "guide", "step", "decode"]
Draw = Callable[[Purpose, list[int], int], Tensor]  # (purpose, frames, call) -> noise (B, C, F, H, W)


@dataclass
class Row:
    """One latent frame. value (B, C, H, W); level 0 is clean; past: the solver's memory of it, without the frame axis."""

    value: Tensor
    level: float
    past: Memory | None = None


@dataclass
class Tape:
    """The rows of one take. done: latent frames handed over so far, in order."""

    rows: dict[int, Row] = field(default_factory=dict)
    done: int = 0

    def clean(self, window: Window) -> dict[int, Tensor]:
        """The clean frames in view, {frame: (B, C, H, W)}."""
        return {f: self.rows[f].value for f in window.frames if f in self.rows and self.rows[f].level == 0}

    def load(self, window: Window, draw: Draw) -> tuple[Tensor, Memory | None]:
        """x (B, C, F, H, W) at the levels of the window's first row, and the solver's memory of it.

        A new frame is pure noise, whatever its first level, and so is one that is told beside x; any other known frame is
        lifted to its level (its memory is then dropped).
        """
        fresh = [f for f, role in zip(window.frames, window.role) if f not in self.rows or role == "beside"]
        if fresh:
            noise = draw("start", fresh, 0)
            for i, f in enumerate(fresh):
                self.rows[f] = Row(noise[:, :, i], float(window.levels[0, window.frames.index(f)]))
        now = torch.tensor([self.rows[f].level for f in window.frames], dtype=torch.float64)
        if (window.levels[0] < now - 1e-12).any():
            raise AssertionError("a plan cannot take noise away without a model call")
        x = torch.stack([self.rows[f].value for f in window.frames], 2)
        raised = window.levels[0] > now + 1e-12
        guide = torch.tensor([role == "guide" for role in window.role])
        x = self._lifted(x, window, now, raised & ~window.moves & ~guide, "context", draw, 0)
        x = self._lifted(x, window, now, raised & window.moves & ~guide, "lift", draw, 0)
        x = self._lifted(x, window, now, raised & guide, "guide", draw, 0)
        return x, self._past(window, raised)

    def refresh(self, x: Tensor, window: Window, call: int, draw: Draw) -> Tensor:
        """x with the noise on its context drawn anew for a later call (published addnoise_condition)."""
        now = torch.tensor([self.rows[f].level for f in window.frames], dtype=torch.float64)
        which = (window.levels[0] > now) & ~window.moves
        clean = torch.stack([self.rows[f].value for f in window.frames], 2)
        return torch.where(per_frame(which, x), self._lifted(clean, window, now, which, "context", draw, call), x)

    def stirred(self, x: Tensor, window: Window, call: int, draw: Draw) -> Tensor:
        """x with untold noise on what is held clean, for one call: cond_noise * level^2 (LTX image_cond_noise_scale)."""
        at = (window.levels == 0).all(0).nonzero()[:, 0]
        if not len(at):
            return x
        frames = [window.frames[i] for i in at.tolist()]
        noise = draw("context", frames, call).to(x)
        clean = torch.stack([self.rows[f].value for f in frames], 2)
        x = x.clone()
        x[:, :, at] = clean + window.cond_noise * float(window.levels[call].max()) ** 2 * noise
        return x

    def _lifted(
        self, x: Tensor, window: Window, now: Tensor, which: Tensor, purpose: Purpose, draw: Draw, call: int
    ) -> Tensor:
        at = which.nonzero()[:, 0]
        if not len(at):
            return x
        noise = draw(purpose, [window.frames[i] for i in at.tolist()], call)
        x = x.clone()
        x[:, :, at] = lift(x[:, :, at], noise, now[at], window.levels[0, at])
        return x

    def _past(self, window: Window, raised: Tensor) -> Memory | None:
        pasts = [None if up else self.rows[f].past for f, up in zip(window.frames, raised.tolist())]
        known = next((p for p in pasts if p is not None), None)
        if known is None:
            return None
        blank = {name: torch.zeros_like(value) for name, value in known.items()}
        filled = [p or blank for p in pasts]
        return {name: torch.stack([p[name] for p in filled], 2 if known[name].ndim == 4 else 0) for name in known}

    def save(self, window: Window, x: Tensor, past: Memory | None, last: bool = False) -> Iterator[tuple[int, Tensor]]:
        """Keep what the window made, forget what left the view, and hand over frames that are clean for good, in order.

        last: nothing will be remade any more, so held frames go too.
        """
        moves = window.moves.tolist()
        for i, f in enumerate(window.frames):
            if moves[i]:
                self.rows[f] = self._row(window, i, x, past)
        shown = len(window.frames) - window.role.count("guide")
        newest = window.frames[shown - 1] - (0 if last else window.hold)
        while self.done <= newest and self.done in self.rows and self.rows[self.done].level == 0:
            yield self.done, self.rows[self.done].value
            self.done += 1
        for f in [f for f in self.rows if f not in window.frames[:shown]]:
            del self.rows[f]

    def rest(self) -> Iterator[tuple[int, Tensor]]:
        """Hand over what was held for a window that will not come."""
        while self.done in self.rows and self.rows[self.done].level == 0:
            yield self.done, self.rows[self.done].value
            self.done += 1

    def _row(self, window: Window, i: int, x: Tensor, past: Memory | None) -> Row:
        f, value, level = window.frames[i], x[:, :, i].clone(), float(window.levels[-1, i])
        if window.blend is not None and self.rows[f].level == 0:
            value = torch.lerp(self.rows[f].value, value, float(window.blend[i]))
        if past is None or level == 0:
            return Row(value, level)
        return Row(value, level, {name: (t[:, :, i] if t.ndim == 5 else t[i]).clone() for name, t in past.items()})

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Everything, as tensors and facts."""
        tensors = {f"row.{f}": row.value for f, row in self.rows.items()}
        for f, row in self.rows.items():
            tensors |= {f"past.{f}.{name}": value for name, value in (row.past or {}).items()}
        return tensors, {"done": self.done, "levels": {str(f): row.level for f, row in self.rows.items()}}

    @staticmethod
    def restored(tensors: Mapping[str, Tensor], facts: Mapping) -> Tape:
        """Undo `state`."""
        rows = {int(f): Row(tensors[f"row.{f}"], level) for f, level in facts["levels"].items()}
        for key, value in tensors.items():
            kind, frame, *name = key.split(".")
            if kind == "past":
                row = rows[int(frame)]
                row.past = {**(row.past or {}), name[0]: value}
        return Tape(rows, facts["done"])
