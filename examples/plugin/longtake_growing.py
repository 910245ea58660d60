"""Growing windows: the first one is short, so that something is shown soon; each next one is twice as long."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from longtake.core.geometry import latents_of_frames
from longtake.core.sigmas import DEFAULT_SCHEDULE, SigmaSchedule, sigmas_of
from longtake.planning.limits import Limits
from longtake.planning.strategies.options import require, require_least
from longtake.planning.strategies.registry import Strategy
from longtake.planning.window import PlanTraits, Window


@dataclass(frozen=True)
class Growing:
    """Windows that overlap by clean context frames and double in length, up to what the model sees at once.

    first: new latent frames of the first window.
    context: latent frames that each later window is conditioned on.
    """

    schedule: SigmaSchedule = DEFAULT_SCHEDULE
    first: int = 1
    context: int = 2
    traits: ClassVar[PlanTraits] = PlanTraits()

    def __post_init__(self):
        require_least("first", self.first, 1)
        require_least("context", self.context, 1)

    def windows(
        self, num_frames: int | None, temporal_compression: int, limits: Limits, given_latents=0, end_latents=0
    ) -> Iterator[Window]:
        """Give the windows that generate `num_frames` output frames (None: without end)."""
        require(not end_latents, "growing windows take no last frame: use --strategy sliding")
        require(self.context < limits.max_latent_frames, "--context leaves no room for new frames: use a smaller one")
        total = None if num_frames is None else latents_of_frames(num_frames, temporal_compression)
        sigmas, done, size = sigmas_of(self.schedule), given_latents, self.first
        while total is None or done < total:
            context = min(done, self.context)
            size = min(size, limits.max_latent_frames - context)
            new = size if total is None else min(size, total - done)
            table = sigmas[:, None].repeat(1, context + new)
            table[:, :context] = 0  # a column that stays at 0 is context; one that falls to 0 is new video
            yield Window(range(done - context, done + new), table)
            done, size = done + new, 2 * size


STRATEGY = Strategy(
    Growing, "Growing windows", "windows that double in length, so that the first frames are shown soon",
    example="--first 2", cases=lambda temporal_compression: [dict(), dict(first=3, context=5)],
)  # fmt: skip
