"""Two passes per window: small latents are made first, and those of twice the size are made anew from what they become.

The small latents of a take have a tape of their own, so every plan whose windows end clean can be run so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from longtake.models.base import Cond, Past, Refine, Session
from longtake.plan import PlanError, Window
from longtake.solve import Step
from longtake.tape import Draw, Row, Tape


@dataclass
class Small:
    """The first pass of a take. anchor: the first small latent of the shot."""

    session: Session
    tape: Tape = field(default_factory=Tape)
    anchor: Tensor | None = None

    def run(
        self, window: Window, cond: Cond, sources: Mapping[int, Tensor], step: Step, draw: Draw,
        fresh: Callable[[Tensor], Tensor], last: bool,
    ) -> Tensor:  # fmt: skip
        """What the window makes, small: (B C F h w) of the frames that are no guides."""
        tape = self.tape
        tape.rows |= {f: Row(value, 0.0) for f, value in sources.items()}
        with torch.inference_mode():
            self.session.begin(window, Past(tape.clean(window)), cond)
            x, past = tape.load(window, draw)
            for call, (level, level_next) in enumerate(pairwise(window.levels)):
                if window.cond_noise:
                    x = tape.stirred(x, window, call, draw)
                elif window.noise == "call" and call:
                    x = tape.refresh(x, window, call, draw)
                x, past = step(x, self.session(x, level), level, level_next, past, partial(fresh, level_next))
            self.session.finish(window, x)
        for f, value in tape.save(window, x, past, last):
            if f == 0 and self.anchor is None:
                self.anchor = value.clone()
        return x[:, :, [role != "guide" for role in window.role]]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything, as tensors and facts."""
        tensors, facts = self.tape.state()
        tensors = {f"tape.{name}": tensor for name, tensor in tensors.items()}
        tensors |= {f"session.{name}": tensor for name, tensor in self.session.state().items()}
        return tensors | ({} if self.anchor is None else {"anchor": self.anchor}), facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Undo `state`."""
        of = lambda part: {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
        self.tape, self.anchor = Tape.restored(of("tape."), facts), tensors.get("anchor")
        self.session.load(of("session."))


def second(window: Window, levels: Sequence[float]) -> Window:
    """The window with other levels: what moves begins at the first of them. PlanError if it did not end clean."""
    moves = window.moves
    if bool(window.levels[-1, moves].any()):
        raise PlanError("two passes need windows that end clean: use --plan relay, sliding, looping or clip")
    ladder = torch.tensor([*levels, 0.0], dtype=torch.float64)[:, None]
    return replace(window, levels=torch.where(moves, ladder.minimum(window.levels[0]), window.levels[0]))


def grown(window: Window, small_BCFhw: Tensor, refine: Refine) -> dict[int, Row]:
    """The frames that a window made, at the larger size, as clean rows for its second pass."""
    shown = [f for f, role in zip(window.frames, window.role) if role != "guide"]
    with torch.inference_mode():
        large = refine.upsample(small_BCFhw)
    return {f: Row(large[:, :, i], 0.0) for i, (f, moves) in enumerate(zip(shown, window.moves.tolist())) if moves}


def shrunk(frames_B3THW: Tensor, scale: int) -> Tensor:
    """Frames at 1/scale of their height and width, each pixel the mean of those that it stands for."""
    small = nnf.avg_pool2d(frames_B3THW.transpose(1, 2).flatten(0, 1), scale)
    return small.unflatten(0, (len(frames_B3THW), -1)).transpose(1, 2)
