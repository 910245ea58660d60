"""Guidance: several branches of one model, mixed into one velocity. Image context stays in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from longtake.models.base import Cond, Past, Session, Text
from longtake.plan import Window


@dataclass(frozen=True)
class Branch:
    """One branch. weight: its share of the velocity; texts(text) -> what it is told instead of the prompt."""

    name: str
    weight: float
    text: Callable[[Text], Text]


def classifier_free(scale: float, negative: Text) -> tuple[Branch, Branch]:
    """v = v_negative + scale * (v_prompt - v_negative) (Ho and Salimans 2022)."""
    return (
        Branch("prompt", scale, lambda text: text),
        Branch("negative", 1 - scale, lambda text: negative),
    )


class Guided:
    """A Session that runs every branch and mixes their velocities; each branch has its own memory.

    batched: all branches go through the network as one batch (faster when memory allows), else one after another.
    """

    def __init__(self, session: Callable[[], Session], branches: Sequence[Branch], batched: bool = True):
        self.branches = tuple(branches)
        self.batched = batched
        self.sessions = [session() for _ in ([None] if batched else self.branches)]

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        told = [replace(cond, texts=tuple(b.text(t) for t in cond.texts)) for b in self.branches]
        if not self.batched:
            for session, mine in zip(self.sessions, told):
                session.begin(window, past, mine)
            return
        texts = tuple(
            Text(" | ".join(t.key for t in texts), torch.cat([t.embedding for t in texts]))
            for texts in zip(*(mine.texts for mine in told))
        )
        known = {f: self._repeat(latent) for f, latent in past.known.items()}
        self.sessions[0].begin(window, replace(past, known=known), replace(cond, texts=texts))

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See `Session`."""
        if self.batched:
            velocities = self.sessions[0](self._repeat(x), level).chunk(len(self.branches))
        else:
            velocities = tuple(session(x, level) for session in self.sessions)
        return torch.stack([branch.weight * v for branch, v in zip(self.branches, velocities)]).sum(0)

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""
        for session in self.sessions:
            session.finish(window, self._repeat(x) if self.batched else x)

    def state(self) -> dict[str, Tensor]:
        """See `Session`."""
        return {f"{i}.{name}": t for i, session in enumerate(self.sessions) for name, t in session.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
        for i, session in enumerate(self.sessions):
            mine = f"{i}."
            session.load({name.removeprefix(mine): t for name, t in state.items() if name.startswith(mine)})

    def _repeat(self, x: Tensor) -> Tensor:
        return torch.cat([x] * len(self.branches))
