"""Step caching (TeaCache, Liu et al. 2024): skip model calls whose result is expected to change little.

A skipped call reuses the residual (what the blocks added to the tokens) of the last computed call. The decision is
made frame by frame. It is approximate and off by default; `python -m longtake.eval.step_cache` measures its error.

Shapes: B videos, F latent frames, S tokens per frame, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from longtake.models.interfaces import Session, SessionWrapper
from longtake.models.runtime.calibration import Calibration, StepCacheError
from longtake.planning.window import Window


class CachingSession:
    """A Session of a network made of blocks, which asks a StepCache before every call of the network.

    net: the network. cache: None computes every call.
    """

    net: Any
    cache: SessionCache | None = None

    def published_calibration(self, size: tuple[int, int]) -> Calibration | None:
        """Return the published calibration for videos of (height, width) pixels, or None if there is none."""
        return None


class SessionCache(Protocol):
    """What a session asks before and tells after every call of its network: a StepCache, or a recorder."""

    calibration: Calibration

    def begin(self, window: Window) -> None:
        """Start a window."""

    def can_skip(self, row: int, moving: Sequence[int], embedding_FD: Tensor, layout: Hashable) -> bool:
        """Tell whether the stored residual may stand for that of this call."""

    def residual(self, columns: Sequence[int]) -> Tensor:
        """Return the stored residual (B, F, S, D) of some columns."""

    def store(self, columns: Sequence[int], residual_BFSD: Tensor) -> None:
        """Note the residual of some columns of a computed call."""


class SessionModel(Protocol):
    """The part of a `longtake.models.model.Model` that step caching needs: a frozen dataclass with these fields."""

    @property
    def name(self) -> str:
        """The name that is shown to the user."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the video in pixels."""

    @property
    def session(self) -> Callable[[], Session]:
        """The function that makes sessions."""


AnyModel = TypeVar("AnyModel", bound=SessionModel)


def with_step_cache(model: AnyModel, threshold: float, calibration: Calibration | None = None) -> AnyModel:
    """Return the model with step caching.

    threshold: expected relative change of the residual that may add up before a call is computed; 0 computes all.
    calibration: default the published one for the network. StepCacheError if there is none, or the model has no blocks.
    """
    if not threshold >= 0:
        raise StepCacheError(f"the step caching threshold must be 0 or more, not {threshold}")
    if not threshold:
        return model
    sessions = caching_sessions(model.session())
    if not sessions:
        raise StepCacheError(
            f"{model.name} has no transformer blocks, so it has no step caching: set the threshold to 0"
        )
    used = calibration or sessions[0].published_calibration(model.size)
    if used is None:
        raise StepCacheError(
            f"no step caching calibration is published for the network of {model.name}: make one with "
            "`python -m longtake.eval.step_cache MODEL -o FILE` and pass it as --step-cache-calibration FILE"
        )
    return with_session_cache(model, lambda: StepCache(used, threshold))


def with_session_cache(model: AnyModel, make: Callable[[], SessionCache | None]) -> AnyModel:
    """Return the model with a cache of its own in every session of its network or networks."""

    def session() -> Session:
        made = model.session()
        for each in caching_sessions(made):
            each.cache = make()
        return made

    return replace(cast(Any, model), session=session)


def caching_sessions(session: Session | CachingSession) -> list[CachingSession]:
    """Return the sessions of the networks themselves, inside the sessions that are wrapped around them."""
    if isinstance(session, CachingSession):
        return [session]
    wrapped = session.wrapped if isinstance(session, SessionWrapper) else ()
    return [found for each in wrapped for found in caching_sessions(each)]


class StepCache:
    """The last residual of each frame of one session, and how much its sigma has moved since.

    Frames are judged one by one, so that context frames do not lower the measure, and the first and last steps of each
    frame of a staircase are computed. A call is skipped only if all frames that it denoises allow it. Nothing is kept
    from one window to the next, so a resumed run equals an uninterrupted one. computed, skipped: calls so far.
    """

    def __init__(self, calibration: Calibration, threshold: float):
        self.calibration, self.threshold = calibration, threshold
        self.computed = self.skipped = 0
        self.window: Window | None = None
        self._forget()

    def _forget(self) -> None:
        self.layout: Hashable = None
        self.residuals: dict[int, Tensor] = {}  # column -> (B, S, D)
        self.embeddings: dict[int, Tensor] = {}  # column -> timestep embedding at the last call
        self.changes: dict[int, float] = {}  # moving column -> expected change since the last computed call
        self.moving: Sequence[int] = ()  # columns of the last call
        self.moved: frozenset[int] = frozenset()  # columns of the last computed call

    def begin(self, window: Window) -> None:
        """Forget the previous window."""
        self.window = window
        self._forget()

    def can_skip(self, row: int, moving: Sequence[int], embedding_FD: Tensor, layout: Hashable) -> bool:
        """Tell whether a call at row `row` of the window may reuse the stored residual.

        moving: columns that this call denoises. embedding_FD: timestep embedding of each of them. layout: what the batch
        is made of (videos, guidance branches); after a change of it nothing stored fits.
        """
        if layout != self.layout:
            self._forget()
            self.layout = layout
        for column, change in zip(moving, self._expected_changes(moving, embedding_FD).tolist()):
            self.changes[column] = self.changes.get(column, 0.0) + change
        self.embeddings.update(zip(moving, embedding_FD))
        self.moving = moving
        if any(self._must_compute(row, column) for column in moving):
            return False
        self.skipped += 1
        return True

    def residual(self, columns: Sequence[int]) -> Tensor:
        """Return the stored residual (B, F, S, D) of some columns."""
        return torch.stack([self.residuals[column] for column in columns], 1)

    def store(self, columns: Sequence[int], residual_BFSD: Tensor) -> None:
        """Store the residual of some columns of a computed call, the moving ones among them."""
        self.computed += 1
        self.residuals = dict(zip(columns, residual_BFSD.unbind(1)))
        self.changes, self.moved = dict.fromkeys(self.moving, 0.0), frozenset(self.moving)

    def _expected_changes(self, moving: Sequence[int], embedding_FD: Tensor) -> Tensor:
        before = torch.stack([self.embeddings.get(column, now) for column, now in zip(moving, embedding_FD)]).double()
        relative = (embedding_FD.double() - before).abs().mean(1) / before.abs().mean(1).clamp_min(1e-12)
        return self.calibration.expected(relative.cpu())

    def _must_compute(self, row: int, column: int) -> bool:
        assert self.window is not None
        sigmas = self.window.sigmas[:, column]
        starts_here = bool(sigmas[0] == self.window.sigmas[0].max())
        taken = (sigmas[: row + 1] != sigmas[1 : row + 2]).sum().item() - 1  # steps before this one
        left = (sigmas[row + 1 : -1] != sigmas[row + 2 :]).sum().item()  # steps after this one
        first = starts_here and taken < self.calibration.first
        last = left < self.calibration.last and sigmas[-1] == 0
        return bool(first or last) or column not in self.moved or self.changes[column] >= self.threshold


def first_row(sigma: Tensor) -> Tensor:
    """Return the sigmas (F,) of the first video of (F,) or (B, F); guidance branches share them."""
    return sigma if sigma.ndim == 1 else sigma[0]


def step_columns(window: Window, sigma: Tensor, start: int) -> tuple[int, list[int]]:
    """Return the row of a window that a call with these sigmas (F,) or (B, F) takes, and the columns that it denoises.

    start: the row of the call before. A solver's call between two rows stays at that row and moves all columns.
    """
    sigmas = first_row(sigma).to(window.sigmas)
    for row in range(start, window.steps):
        if torch.equal(sigmas, window.sigmas[row]):
            return row, (window.sigmas[row] != window.sigmas[row + 1]).nonzero()[:, 0].tolist()
    return start, list(range(window.sigmas.shape[1]))
