"""Classifier-free and skip-layer guidance: branches of one model, mixed into one velocity. All keep the image context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from longtake.core.guidance_settings import Guidance, Perturb
from longtake.engine.state import prefixed, within
from longtake.models.interfaces import Conditioning, ContextFrames, PromptEmbedding, Session
from longtake.models.model import Model
from longtake.planning.window import Window


def guidance_of(model: Model, requested: float | Guidance | None, stg_mode: str | None = None) -> Guidance:
    """Decide the guidance: the requested one, else what suits the model. Raise ValueError if the model cannot do it.

    A number sets the scale alone and leaves the rest as it suits the model; 1 turns guidance off. stg_mode: replaces that
    of the guidance.
    """
    own = model.defaults.guidance
    if isinstance(requested, Guidance):
        own = requested
    elif requested == 1:
        own = Guidance()
    elif requested is not None and requested != model.defaults.guidance_scale:
        own = replace(own, scale=(requested,) * len(own.scale))
    if stg_mode is not None:
        own = replace(own, stg_mode=stg_mode)  # type: ignore[arg-type]  # checked by Guidance
    blocks = {block for row in own.blocks for block in row}
    if any(own.stg_scale) and (not model.features.guidance_blocks or max(blocks) >= model.features.guidance_blocks):
        raise ValueError(
            f"{model.name} has {model.features.guidance_blocks} blocks that guidance can skip, not {max(blocks)}: leave stg out"
        )
    return own


class Guided:
    """A Session that runs the branches that a step needs and mixes their velocities; each has a session of its own.

    batched: the branches of a step go through the network as one batch (faster when memory allows), else one after
    another. A perturbed branch always shares the prompt's computation up to the first block that differs.
    """

    def __init__(
        self,
        session: Callable[[], Session],
        guidance: Guidance,
        negative: PromptEmbedding | None = None,
        batched: bool = True,
    ):
        self.guidance, self.negative, self.batched = guidance, negative, batched
        both = any(scale > 1 for scale in guidance.scale)
        alone = not both or not batched or any(scale <= 1 for scale in guidance.scale)
        self.sessions: dict[str, Session] = {}
        if alone:
            self.sessions["prompt"] = session()
        if both:
            self.sessions["both" if batched else "negative"] = session()

    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Prepare every branch: the negative one with the negative prompt."""
        self.moves = window.moves
        for name, session in self.sessions.items():
            if name == "prompt":
                session.begin(window, context, cond)
            elif name == "negative":
                assert self.negative is not None
                session.begin(window, context, replace(cond, texts=tuple(self.negative for _ in cond.texts)))
            else:
                known = {f: torch.cat([latent] * 2) for f, latent in context.latents.items()}
                texts = tuple(self._both(text) for text in cond.texts)
                session.begin(window, replace(context, latents=known), replace(cond, texts=texts))

    def _both(self, text: PromptEmbedding) -> PromptEmbedding:
        assert self.negative is not None
        embedding = torch.cat([text.embedding, self.negative.embedding])
        return PromptEmbedding(f"{text.key} | {self.negative.key}", embedding)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Mix the velocities of the branches that this sigma needs."""
        scale, stg, rescale, blocks = self.guidance.at(self.guidance.interval(float(sigma.max())))
        prompt, negative, perturbed = self._branches(x, sigma, scale > 1, blocks if stg > 0 else ())
        moves = torch.ones_like(self.moves) if self.guidance.full_sample_stats else self.moves
        mixed = prompt
        if negative is not None:
            if self.guidance.cfg_zero_star:
                negative = projected(prompt, negative, moves)
            mixed = negative + scale * (prompt - negative)
        if perturbed is not None:
            mixed = mixed + stg * (prompt - perturbed)
        return rescaled(mixed, prompt, rescale, moves) if rescale and mixed is not prompt else mixed

    def _branches(
        self, x: Tensor, sigma: Tensor, both: bool, blocks: tuple[int, ...]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Run the branches: velocities of the prompt, the negative prompt, and the prompt perturbed in `blocks`."""
        rows = len(x)
        how = {"perturb": Perturb(tuple(sorted(blocks)), rows, self.guidance.stg_mode)} if blocks else {}
        if both and self.batched:
            together: Any = self.sessions["both"]  # which takes `perturb` where its model has blocks
            prompt, negative, *perturbed = together(torch.cat([x, x]), sigma, **how).split(rows)
            return prompt, negative, perturbed[0] if perturbed else None
        alone: Any = self.sessions["prompt"]
        prompt, *perturbed = alone(x, sigma, **how).split(rows)
        return prompt, self.sessions["negative"](x, sigma) if both else None, perturbed[0] if perturbed else None

    def finish(self, window: Window, x: Tensor) -> None:
        """Finish the window in every branch."""
        for name, session in self.sessions.items():
            session.finish(window, torch.cat([x, x]) if name == "both" else x)

    def state(self) -> dict[str, Tensor]:
        """Return the state of every branch, under its name."""
        return {key: t for name, session in self.sessions.items() for key, t in prefixed(name, session.state()).items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Give every branch its saved state."""
        for name, session in self.sessions.items():
            session.load(within(name, state))


class TextAndControlGuidance:
    """A Session of three branches: v = u + text (c - d) + control (d - u) (published for SVI-Talk).

    c: prompt and control signal; d: negative prompt and control signal; u: negative prompt and no control signal. Image
    context stays in all of them. A scale of 1 needs no branch of its own.
    """

    def __init__(self, session: Callable[[], Session], text: float, control: float, negative: PromptEmbedding):
        self.text, self.control, self.negative = text, control, negative
        names = ["c", *(["d"] if text != 1 or control != 1 else []), *(["u"] if control != 1 else [])]
        self.sessions = {name: session() for name in names}

    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Prepare every branch with its share of the conditioning."""
        negative = replace(cond, texts=tuple(self.negative for _ in cond.texts))
        conds = {"c": cond, "d": negative, "u": replace(negative, control=None)}
        for name, session in self.sessions.items():
            session.begin(window, context, conds[name])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Mix the velocities of the branches."""
        found = {name: session(x, sigma) for name, session in self.sessions.items()}
        c, d = found["c"], found.get("d", found["c"])
        u = found.get("u", d)
        return u + self.text * (c - d) + self.control * (d - u)

    def finish(self, window: Window, x: Tensor) -> None:
        """Finish the window in every branch."""
        for session in self.sessions.values():
            session.finish(window, x)

    def state(self) -> dict[str, Tensor]:
        """Return the state of every branch, under its name."""
        return {key: t for name, session in self.sessions.items() for key, t in prefixed(name, session.state()).items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Give every branch its saved state."""
        for name, session in self.sessions.items():
            session.load(within(name, state))


def projected(prompt: Tensor, negative: Tensor, moves: Tensor) -> Tensor:
    """Scale the negative velocity by <prompt, negative> / |negative|^2 over the frames that move (CFG-Zero*, eq. 6)."""
    p, n = (v[:, :, moves.to(v.device)].flatten(1) for v in (prompt, negative))
    share = (p * n).sum(1) / ((n * n).sum(1) + 1e-8)
    return share[:, None, None, None, None] * negative


def rescaled(mixed: Tensor, prompt: Tensor, share: float, moves: Tensor) -> Tensor:
    """Rescale to the standard deviation of the prompt's velocity, in part (Lin et al. 2024, eq. 15 and 16)."""
    after, before = (v[:, :, moves.to(v.device)].flatten(1).std(1) for v in (mixed, prompt))
    factor = share * before / after + 1 - share
    return factor[:, None, None, None, None] * mixed
