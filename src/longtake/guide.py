"""Guidance: several branches of one model, mixed into one velocity. Image context stays in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from longtake.guidance import Guidance, Perturb
from longtake.models.base import Cond, Model, Past, Session, Text
from longtake.plan import Window


def guidance_of(model: Model, asked: float | Guidance | None) -> Guidance:
    """What was asked for, else what suits the model; ValueError if the model cannot do it.

    A number is the scale alone, and leaves the rest as it suits the model; 1 is no guidance at all.
    """
    own = model.guide or Guidance((model.guidance,))
    if isinstance(asked, Guidance):
        own = asked
    elif asked == 1:
        own = Guidance()
    elif asked is not None and asked != model.guidance:
        own = replace(own, scale=(asked,) * len(own.scale))
    blocks = {block for row in own.blocks for block in row}
    if any(own.stg) and (not model.blocks or max(blocks) >= model.blocks):
        raise ValueError(
            f"{model.name} has {model.blocks} blocks that guidance can skip, not {max(blocks)}: leave stg out"
        )
    return own


class Guided:
    """A Session that runs the branches that a call needs and mixes their velocities; each has its own memory.

    batched: the branches of a call go through the network as one batch (faster when memory allows), else one after
    another. A perturbed branch always shares the prompt's computation up to the first block that differs.
    """

    def __init__(
        self, session: Callable[[], Session], guidance: Guidance, negative: Text | None = None, batched: bool = True
    ):
        self.guidance, self.negative, self.batched = guidance, negative, batched
        both = any(scale > 1 for scale in guidance.scale)
        alone = not both or not batched or any(scale <= 1 for scale in guidance.scale)
        self.sessions: dict[str, Session] = {}
        if alone:
            self.sessions["prompt"] = session()
        if both:
            self.sessions["both" if batched else "negative"] = session()

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        self.moves = window.moves
        for name, session in self.sessions.items():
            if name == "prompt":
                session.begin(window, past, cond)
            elif name == "negative":
                assert self.negative is not None
                session.begin(window, past, replace(cond, texts=tuple(self.negative for _ in cond.texts)))
            else:
                known = {f: torch.cat([latent] * 2) for f, latent in past.known.items()}
                texts = tuple(self._both(text) for text in cond.texts)
                session.begin(window, replace(past, known=known), replace(cond, texts=texts))

    def _both(self, text: Text) -> Text:
        assert self.negative is not None
        embedding = torch.cat([text.embedding, self.negative.embedding])
        return Text(f"{text.key} | {self.negative.key}", embedding)

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See `Session`."""
        scale, stg, rescale, blocks = self.guidance.at(self.guidance.interval(float(level.max())))
        prompt, negative, perturbed = self._branches(x, level, scale > 1, blocks if stg > 0 else ())
        moves = torch.ones_like(self.moves) if self.guidance.whole else self.moves
        mixed = prompt
        if negative is not None:
            if self.guidance.star:
                negative = projected(prompt, negative, moves)
            mixed = negative + scale * (prompt - negative)
        if perturbed is not None:
            mixed = mixed + stg * (prompt - perturbed)
        return rescaled(mixed, prompt, rescale, moves) if rescale and mixed is not prompt else mixed

    def _branches(
        self, x: Tensor, level: Tensor, both: bool, blocks: tuple[int, ...]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Velocities of the prompt, of the negative prompt, and of the prompt perturbed in these blocks."""
        rows = len(x)
        how = {"perturb": Perturb(tuple(sorted(blocks)), rows)} if blocks else {}
        if both and self.batched:
            together: Any = self.sessions["both"]  # which takes `perturb` where its model has blocks
            prompt, negative, *perturbed = together(torch.cat([x, x]), level, **how).split(rows)
            return prompt, negative, perturbed[0] if perturbed else None
        alone: Any = self.sessions["prompt"]
        prompt, *perturbed = alone(x, level, **how).split(rows)
        return prompt, self.sessions["negative"](x, level) if both else None, perturbed[0] if perturbed else None

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""
        for name, session in self.sessions.items():
            session.finish(window, torch.cat([x, x]) if name == "both" else x)

    def state(self) -> dict[str, Tensor]:
        """See `Session`."""
        return {f"{name}.{k}": t for name, session in self.sessions.items() for k, t in session.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
        for name, session in self.sessions.items():
            mine = f"{name}."
            session.load({key.removeprefix(mine): t for key, t in state.items() if key.startswith(mine)})


def projected(prompt: Tensor, negative: Tensor, moves: Tensor) -> Tensor:
    """The negative velocity times <prompt, negative> / |negative|^2, over the frames that move (CFG-Zero*, eq. 6)."""
    p, n = (v[:, :, moves.to(v.device)].flatten(1) for v in (prompt, negative))
    share = (p * n).sum(1) / ((n * n).sum(1) + 1e-8)
    return share[:, None, None, None, None] * negative


def rescaled(mixed: Tensor, prompt: Tensor, share: float, moves: Tensor) -> Tensor:
    """mixed with the standard deviation of the prompt's velocity, in part (Lin et al. 2024, eq. 15 and 16)."""
    after, before = (v[:, :, moves.to(v.device)].flatten(1).std(1) for v in (mixed, prompt))
    factor = share * before / after + 1 - share
    return factor[:, None, None, None, None] * mixed
