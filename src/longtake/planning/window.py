"""A plan is a stream of windows; a window is the latent frames in view and a table of sigmas, one row per step.

A column of the table that stays constant is context; a column that falls to 0 is new video. All of this is pure: no
device, no model, no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol

from longtake.core.errors import PlanError
from longtake.core.sigmas import SigmaSchedule
from longtake.planning.limits import Limits

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["generate", "context", "concat", "keyframe"]
Handoff = Literal["pixels-uint8", "pixels-floor8", "pixels", "latents"]
OverlapSource = Literal["old", "new", "blend"]


@dataclass(frozen=True)
class Cut:
    """The start of a new clip after another one.

    overlap: output frames that the new clip repeats (0: a new shot, without context).
    handoff: what the new clip is conditioned on. "pixels" are clamped floats, encoded again; "pixels-uint8" go through
    8 bits, "pixels-floor8" through 8 bits rounded down (as published for SVI); "latents" are taken over as they are.
    overlap_source: the version of the overlap that is shown; for "new" and "blend" (a cross-fade) the old version is
    withheld until the new one is generated.
    anchor: the first latent of the new clip is conditioned on the first latent of the shot.
    """

    overlap: int
    handoff: Handoff = "pixels"
    overlap_source: OverlapSource = "old"
    anchor: bool = False


@dataclass(frozen=True)
class LatentSource:
    """The origin of the clean value of a column, if that is not in the latent buffer under the column's own number.

    kind: "end_frame", the given last frame; "keyframe", latent `latent` of keyframe number `keyframe`; "copy", a copy of
    latent frame `latent` of the clip; "anchor", the first latent of the shot; "video", latent frame `latent` of the clip in
    the video that is made into another one.
    """

    kind: Literal["end_frame", "keyframe", "copy", "anchor", "video"]
    latent: int = 0
    keyframe: int = 0

    def moved(self, by: int) -> LatentSource:
        """Return the source for a window `by` frames later: a copy is then of a later frame."""
        return LatentSource("copy", self.latent + by) if self.kind == "copy" else self


@dataclass(frozen=True)
class Adain:
    """Move the statistics of a window's latents by `share` towards those of the first window of its shot or scene."""

    share: float
    per: Literal["shot", "scene"] = "shot"


@dataclass(frozen=True)
class Window:
    """The latent frames in view, with the sigma of each before and after every step.

    frames: latent frame numbers counted from the start of the clip, ascending; not always contiguous (sink frames).
    sigmas: (steps + 1, frames) float64. A constant column is context; a column that falls to 0 is new video.
    positions: position of each frame for the network's position code, in latent frames; that of a keyframe may lie between
    two frames, or before the first.
    role: of each frame. "generate" is denoised; "context" keeps its sigma; "concat" is denoised while its clean value is
    concatenated by channel; a "keyframe" is seen by the model and never shown.
    block: attention block of each frame, ascending; a causal model attends within a block and to those before.
    cut: the window starts a new clip.
    revisable: number of frames at the end of the view that a later window will generate again.
    blend: (frames,) weight of the new version of a frame that was clean before.
    noise_draw: which draw of the keyed noise a frame takes that is generated again; context noise takes it too.
    context_noise_mode: noise on context frames is "frozen" for the window, or "resampled" at each step.
    text: every frame follows the prompt of the first new frame ("window"), or its own prompt ("frame").
    sources: origins of clean values, by frame. adain: applied before the blend.
    image_cond_noise_scale: at each step, clean context frames get noise of std scale * sigma_max**2, while the model still
    receives sigma 0 for them (LTX).
    on_schedule: frames whose first move, from a sigma between two of the schedule down to the next, only renames their noise.
    """

    frames: Sequence[int]
    sigmas: Tensor
    positions: Sequence[float] = ()
    role: Sequence[Role] = ()
    block: Sequence[int] = ()
    cut: Cut | None = None
    revisable: int = 0
    blend: Tensor | None = None
    noise_draw: int = 0
    context_noise_mode: Literal["frozen", "resampled"] = "frozen"
    text: Literal["window", "frame"] = "window"
    sources: Mapping[int, LatentSource] = field(default_factory=dict)
    adain: Adain | None = None
    image_cond_noise_scale: float = 0.0
    on_schedule: Sequence[int] = ()

    def __post_init__(self):
        count = len(self.frames)
        roles = ("generate" if moves else "context" for moves in self.moves.tolist())
        object.__setattr__(self, "frames", tuple(self.frames))
        object.__setattr__(self, "positions", tuple(self.positions) or tuple(float(i) for i in range(count)))
        object.__setattr__(self, "role", tuple(self.role) or tuple(roles))
        object.__setattr__(self, "block", tuple(self.block) or tuple(range(count)))
        if self.sigmas.shape[1:] != (count,) or len(self.positions) != count or len(self.role) != count:
            raise PlanError(f"a window of {count} frames has sigmas of shape {tuple(self.sigmas.shape)}")
        if count == 0 or len(self.sigmas) < 2:
            raise PlanError(f"a window of {count} frames and {len(self.sigmas)} rows of sigmas generates nothing")
        if len(self.block) != count or (self.blend is not None and self.blend.shape != (count,)):
            raise PlanError(f"the blocks and the blend of a window of {count} frames must have a value for each")

    @property
    def steps(self) -> int:
        """Number of steps, which are model calls."""
        return len(self.sigmas) - 1

    @property
    def moves(self) -> Tensor:
        """(frames,) bool: the columns whose sigma changes."""
        return (self.sigmas != self.sigmas[0]).any(0)


def check(window: Window, limits: Limits) -> None:
    """Raise PlanError unless a model of these limits can run the window."""
    sigmas, count = window.sigmas, sum(role != "keyframe" for role in window.role)
    if limits.causal and "keyframe" in window.role:
        raise PlanError("A block-causal model never sees later frames, so it cannot be conditioned on a last frame.")
    if count > limits.max_latent_frames:
        raise PlanError(
            f"A window of {count} latent frames is more than this model sees at once ({limits.max_latent_frames}): "
            "use a shorter window."
        )
    if not ((sigmas[1:] <= sigmas[:-1]).all() and sigmas.min() >= 0 and sigmas.max() <= 1):
        raise PlanError("The sigmas of a window must lie in [0, 1] and never rise.")
    if any(b <= a for a, b in pairwise(window.frames)) or any(b < a for a, b in pairwise(window.block)):
        raise PlanError("The frames and blocks of a window must be in order.")
    if any(frame < 0 and role != "keyframe" for frame, role in zip(window.frames, window.role)):
        raise PlanError("The frames of a window are numbered from 0, the first of their clip.")
    _check_conditioning(window, limits)
    moving = sigmas[:, window.moves]
    if not limits.per_frame_sigma and (moving != moving[:, :1]).any():
        raise PlanError("This model needs one sigma for all frames of a step: use a strategy without --ar-step.")


def _check_conditioning(window: Window, limits: Limits) -> None:
    if limits.conditioning == "concat" and "context" in window.role:
        raise PlanError(
            "This model takes context frames by channel concatenation (image-to-video), not in place. "
            "Use --strategy clip-conditioned."
        )
    if limits.conditioning == "inpaint" and "concat" in window.role:
        raise PlanError("This model takes context frames in place, not by channel concatenation. Use --strategy relay.")
    if limits.conditioning == "none" and set(window.role) != {"generate"}:
        raise PlanError(
            "This text-to-video checkpoint cannot take context frames, so it makes single clips only. "
            "Use --strategy clip, or a diffusion-forcing or image-to-video checkpoint."
        )


@dataclass(frozen=True)
class PlanTraits:
    """Properties of a plan that the engine and the estimates read besides its windows.

    tail_frames: output frames of a clip that are kept for the cut after it.
    context_frames: output frames of an earlier video that a plan is conditioned on when it extends that video (None: no
    number of its own).
    window_frames: output frames of a window as the user set them (None: all that the model sees).
    anchor: a clip after a cut begins with the first latent of its shot.
    single_window: the plan has one window, so the length of a video is limited.
    stretches: fewer steps give the same windows with shorter tables, so that a rehearsal may take fewer.
    """

    tail_frames: int = 0
    context_frames: int | None = None
    window_frames: int | None = None
    anchor: bool = False
    single_window: bool = False
    stretches: bool = False


class Plan(Protocol):
    """A strategy with its options: a frozen dataclass that gives windows."""

    @property
    def schedule(self) -> SigmaSchedule:
        """The sigmas through which a frame is denoised."""

    @property
    def traits(self) -> PlanTraits:
        """Properties of the plan besides its windows."""

    def windows(
        self,
        num_frames: int | None,
        temporal_compression: int,
        limits: Limits,
        given_latents: int = 0,
        end_latents: int = 0,
    ) -> Iterator[Window]:
        """Give the windows that generate `num_frames` output frames (None: without end).

        temporal_compression: output frames per latent frame after the first. given_latents: latent frames at the start
        that the user gives, clean. end_latents: latent frames of a given last frame, which the last window sees and never
        shows. Raise PlanError if the options do not suit these limits.
        """


def with_schedule(plan: Plan, **changes: Any) -> Plan:
    """Return the plan with other fields of its sigma schedule."""
    return replace(plan, schedule=replace(plan.schedule, **changes))  # type: ignore[type-var, call-arg]
