"""Step caching: a call that would change little is answered with what the layers added last time (TeaCache, Liu et al.
2024), decided frame by frame. Approximate, and off unless asked for; `python -m longtake.eval.caching` measures it.

Shapes: B videos, F latent frames, S tokens per frame, D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from longtake.plan import Window

if TYPE_CHECKING:
    from longtake.models.base import Model


class CacheError(ValueError):
    """Step caching that cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Rule:
    """How much what the layers add changes, told from how much the embedding of a frame's noise level changes.

    coefficients: of a polynomial in the relative change of the embedding, highest power first. projected: the embedding
    is the one that modulates the layers (e0), else the one of the head (e). first, last: steps at the start and at the
    end of every frame that are always made.
    """

    coefficients: tuple[float, ...]
    projected: bool = True
    first: int = 5
    last: int = 0

    def expected(self, change: Tensor) -> Tensor:
        """The change of what the layers add, as far as a polynomial tells it; never below 0."""
        total = torch.zeros_like(change)
        for coefficient in self.coefficients:
            total = total * change + coefficient
        return total.clamp_min(0)

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Rule:
        """Undo `facts`. CacheError if it is something else."""
        try:
            return Rule(**{**facts, "coefficients": tuple(float(c) for c in facts["coefficients"])})
        except (ValueError, KeyError, TypeError) as error:
            raise CacheError(f"there is no rule for step caching in {facts} ({error}): calibrate again") from error

    def facts(self) -> dict[str, Any]:
        """A json-able record."""
        return asdict(self) | {"coefficients": list(self.coefficients)}

    @staticmethod
    def read(path: Path | str) -> Rule:
        """A rule that `longtake.eval.caching` wrote. CacheError if the file holds none."""
        try:
            return Rule.of(json.loads(Path(path).read_text()))
        except (OSError, ValueError) as error:
            raise CacheError(f"{path} holds no rule for step caching ({error}): calibrate again") from error

    def write(self, path: Path | str) -> None:
        """Undo `read`."""
        Path(path).write_text(json.dumps(self.facts(), indent=2) + "\n")


# fits of TeaCache4Wan2.1, which SkyReels-V2 takes over: by the size of the network, and of the picture for image to video
RULES: dict[str, Rule] = {
    "1.3b": Rule((-5.21862437e4, 9.23041404e3, -5.28275948e2, 1.36987616e1, -4.99875664e-2)),
    "14b": Rule((-3.03318725e5, 4.90537029e4, -2.65530556e3, 5.87365115e1, -3.15583525e-1)),
    "i2v 540p": Rule((2.57151496e5, -3.54229917e4, 1.40286849e3, -1.35890334e1, 1.32517977e-1)),
    "i2v 720p": Rule((8.10705460e3, 2.13393892e3, -3.72934672e2, 1.66203073e1, -4.17769401e-2)),
}
# the same source's other mode: the head's embedding, and only the first and the last step are always made
EARLY_RULES: dict[str, Rule] = {
    name: Rule(coefficients, projected=False, first=1, last=1)
    for name, coefficients in {
        "1.3b": (2.39676752e3, -1.31110545e3, 2.01331979e2, -8.29855975, 1.37887774e-1),
        "14b": (-5784.54975374, 5449.50911966, -1811.16591783, 256.27178429, -13.02252404),
        "i2v 540p": (-3.02331670e2, 2.23948934e2, -5.25463970e1, 5.87348440, -2.01973289e-1),
        "i2v 720p": (-114.36346466, 65.26524496, -18.82220707, 4.91518089, -0.23412683),
    }.items()
}


def known_rule(config: Any, size: tuple[int, int]) -> Rule:
    """The published rule for a Wan network that makes pictures of (height, width). CacheError says how to make one."""
    name = {1536: "1.3b", 5120: "14b"}.get(config.dim)
    if name is not None and config.image_dim is not None:
        name = "i2v 720p" if size[0] * size[1] > 544 * 960 else "i2v 540p"
    if name is None:
        raise CacheError(
            "no rule for step caching is known for a network of this width: make one with "
            "`python -m longtake.eval.caching MODEL -o rule.json`"
        )
    return RULES[name]


def cached(model: Model, threshold: float, rule: Rule | None = None) -> Model:
    """The model with step caching. threshold: the expected change that may add up before a call is made; 0 makes all.

    CacheError if the family has none, or no rule is known for the network.
    """
    if not threshold >= 0:
        raise CacheError(f"the threshold of step caching must be 0 or more, not {threshold}")
    if not threshold:
        return model
    session = innermost(model.session())
    if not hasattr(session, "cache"):
        raise CacheError(f"{model.name} has no step caching: leave it out")
    used = rule or known_rule(session.net.config, model.size)
    return with_cache(model, lambda: StepCache(used, threshold))


def with_cache(model: Model, make: Any) -> Model:
    """The model whose every session has a cache of its own."""

    def session() -> Any:
        made = model.session()
        innermost(made).cache = make()
        return made

    return replace(model, session=session)


def innermost(session: Any) -> Any:
    """The session of the network itself, where others are wrapped around it."""
    while hasattr(session, "session"):
        session = session.session
    return session


class StepCache:
    """What the layers of one session added to each frame, and how far the levels have moved since.

    Every frame is counted on its own, so that frames held still do not water the measure down and a staircase protects
    the first and last steps of each. A call is skipped only if all frames that it moves allow it. Nothing is kept from
    one window to the next, so a resumed run is the same run. made, skipped: calls so far.
    """

    def __init__(self, rule: Rule, threshold: float):
        self.rule, self.threshold = rule, threshold
        self.made = self.skipped = 0
        self.begin(None)

    def begin(self, window: Window | None) -> None:
        """Forget all of the window before."""
        self.window = window
        self.added: dict[int, Tensor] = {}  # column -> (B, S, D)
        self.before: dict[int, Tensor] = {}  # column -> embedding at the last call
        self.sums: dict[int, float] = {}

    def recall(self, row: int, moves: Sequence[int], embedding_FD: Tensor) -> Tensor | None:
        """What the layers would add to the moving columns (B, F, S, D), or None if the call has to be made.

        embedding: of the level of each of them.
        """
        for column, change in zip(moves, self._change(moves, embedding_FD).tolist()):
            self.sums[column] = self.sums.get(column, 0.0) + change
        self.before.update(zip(moves, embedding_FD))
        if any(self._due(row, column) for column in moves):
            return None
        self.skipped += 1
        return torch.stack([self.added[column] for column in moves], 1)

    def store(self, moves: Sequence[int], added_BFSD: Tensor) -> None:
        """A call was made, and the layers added this to the moving columns."""
        self.made += 1
        self.added = dict(zip(moves, added_BFSD.unbind(1)))
        self.sums = dict.fromkeys(moves, 0.0)

    def _change(self, moves: Sequence[int], embedding_FD: Tensor) -> Tensor:
        before = torch.stack([self.before.get(column, now) for column, now in zip(moves, embedding_FD)]).double()
        relative = (embedding_FD.double() - before).abs().mean(1) / before.abs().mean(1).clamp_min(1e-12)
        return self.rule.expected(relative.cpu())

    def _due(self, row: int, column: int) -> bool:
        assert self.window is not None
        levels = self.window.levels[:, column]
        begins_here = bool(levels[0] == self.window.levels[0].max())
        steps = (levels[: row + 1] != levels[1 : row + 2]).sum().item() - 1  # taken before this one
        left = (levels[row + 1 : -1] != levels[row + 2 :]).sum().item()  # after this one
        kept = (begins_here and steps < self.rule.first) or (left < self.rule.last and levels[-1] == 0)
        return bool(kept) or column not in self.added or self.sums[column] >= self.threshold
