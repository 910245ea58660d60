"""Video to video: windows whose new frames start from those of an input video, with the first steps left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from longtake.core.errors import PlanError
from longtake.core.sigmas import SigmaSchedule, sigmas_of
from longtake.planning.limits import Limits
from longtake.planning.window import LatentSource, Plan, PlanTraits, Window

USUAL_SIGMA = 0.95  # by default the steps above it are left out: they would keep hardly anything of the input video


@dataclass(frozen=True)
class VideoToVideoPlan:
    """A plan whose new frames start from an input video, noised to the sigma before step number `skip` (LTX `media_items`).

    Every window must begin a clip, since the latents of a clip are those of a video that is encoded from its first frame.
    """

    plan: Plan
    skip: int

    @property
    def schedule(self) -> SigmaSchedule:
        """The sigmas through which a frame is denoised, those of the steps left out included."""
        return self.plan.schedule

    @property
    def traits(self) -> PlanTraits:
        """What the engine and the estimates need to know."""
        return replace(self.plan.traits, stretches=False)

    def windows(
        self,
        num_frames: int | None,
        temporal_compression: int,
        limits: Limits,
        given_latents: int = 0,
        end_latents: int = 0,
    ) -> Iterator[Window]:
        """Give the windows (see `Plan`). Raise PlanError if one continues a clip, or if no step or all steps are left out."""
        sigmas = sigmas_of(self.schedule)
        if not 1 <= self.skip < len(sigmas) - 1:
            raise PlanError(
                f"--skip-initial-inference-steps must lie between 1 and {len(sigmas) - 2} of {len(sigmas) - 1} steps, not "
                f"{self.skip}"
            )
        windows = self.plan.windows(num_frames, temporal_compression, limits, given_latents, end_latents)
        for index, window in enumerate(windows):
            if index and window.cut is None:
                raise PlanError(
                    "video to video works clip by clip: use --strategy relay or clip, or a --handoff of pixels"
                )
            yield from_video(window, float(sigmas[self.skip]))


def from_video(window: Window, sigma: float) -> Window:
    """Return the window with its new frames started from the input video at a sigma, without the steps above it."""
    new = [i for i, (moves, role) in enumerate(zip(window.moves.tolist(), window.role)) if moves and role == "generate"]
    table = window.sigmas.clone()
    table[:, new] = table[:, new].clamp_max(sigma)
    moving = (table[1:] != table[:-1]).any(1).nonzero()
    frames = [window.frames[i] for i in new]
    sources = {**{frame: LatentSource("video", frame) for frame in frames}, **window.sources}
    return replace(window, sigmas=table[int(moving[0]) :] if len(moving) else table, sources=sources)


def usual_skip(schedule: SigmaSchedule) -> int:
    """Return the number of steps that are left out by default: those above `USUAL_SIGMA`, at least one, never all."""
    sigmas = sigmas_of(schedule)[:-1].tolist()
    return max(1, min(len(sigmas) - 1, sum(sigma > USUAL_SIGMA for sigma in sigmas)))
