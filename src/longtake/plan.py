"""A plan is a stream of windows; a window is the latent frames in view and their noise levels, one row per model call.

Everything here is pure: no device, no model, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["make", "context", "beside", "guide"]


class PlanError(ValueError):
    """A request that no plan can meet; the message names the nearest one that can be met."""


@dataclass(frozen=True)
class Limits:
    """What a plan must respect to suit a family.

    view: latent frames a call may see. block: latent frames that are made together (causal checkpoints).
    mixed: whether frames of one call may stand at different noise levels.
    context: known frames go "in place" (a column held still), "beside" x (told through `Session.begin`), or nowhere
    ("none": a text-to-video checkpoint makes single clips).
    causal: attention is block-causal and clean frames are remembered as keys and values.
    end: a given end is a latent frame "behind" the last one (SkyReels-V2), or stands "at" the last output frame (LTX).
    """

    view: int
    block: int = 1
    mixed: bool = True
    context: Literal["in place", "beside", "none"] = "in place"
    causal: bool = False
    end: Literal["behind", "at"] = "behind"


@dataclass(frozen=True)
class Cut:
    """How a take begins when it does not simply go on.

    seam: output frames that the new take repeats (0: a new shot that knows nothing of the old one).
    hand: "pixels8" sends the tail through uint8, "floor8" too, rounding down (published for SVI), "pixels" through clamped
    floats, "latents" carries latents on.
    keep: which version of the seam is shown; "new" and "blend" (a cross-fade) hold the old one back until the new is made.
    anchor: the first latent of the take is the first latent of the shot, told again.
    """

    seam: int
    hand: Literal["pixels8", "floor8", "pixels", "latents"] = "pixels"
    keep: Literal["old", "new", "blend"] = "old"
    anchor: bool = False


@dataclass(frozen=True)
class Source:
    """Where the clean value of a column comes from, if not from the tape.

    kind: the given end frame, latent `latent` of given item number `item`, a "copy" of latent frame `latent` of the take,
    or the "first" latent of the shot.
    """

    kind: Literal["end", "item", "copy", "first"]
    latent: int = 0
    item: int = 0

    def moved(self, by: int) -> Source:
        """The same for a window `by` frames later: a copy is of a later frame."""
        return Source("copy", self.latent + by) if self.kind == "copy" else self


@dataclass(frozen=True)
class Grade:
    """Match the statistics of what a window made to those of the first window of its shot (or scene) by `share` (AdaIN)."""

    share: float
    per: Literal["shot", "scene"] = "shot"


@dataclass(frozen=True)
class Window:
    """The latent frames in view and how noisy each is before and after every model call.

    frames: latent frame numbers counted from the start of the take, ascending; need not be contiguous (sinks).
    levels: (calls + 1, frames) float64. A constant column is context; a column that falls to 0 is new video.
    positions: where each frame stands for the network's position code, in latent frames; a guide may stand between two,
    or before the first.
    role: per frame. context is held still; beside falls like the rest, while the model is told of its clean value; a guide
    is told to the model and never emitted.
    cut: opens a new take. hold: frames at the end of the view that a later window will remake.
    blend: (frames,) weight of the new version of a frame that was clean before.
    sources: where columns take their clean values from, by frame. grade: done before the blend.
    cond_noise: at every call, columns held still at level 0 get noise of this times the highest level squared, untold.
    draw: which draw of the keyed noise a frame made anew uses; context noise uses it too.
    noise: context noise at a constant level is "frozen" for the window or drawn anew for each "call".
    text: every frame follows the prompt of the first new frame ("window"), or each its own ("frame").
    block: the attention block of each frame, ascending; a causal model attends within a block and to those before.
    """

    frames: Sequence[int]
    levels: Tensor
    positions: Sequence[float] = ()
    role: Sequence[Role] = ()
    block: Sequence[int] = ()
    cut: Cut | None = None
    hold: int = 0
    blend: Tensor | None = None
    draw: int = 0
    noise: Literal["frozen", "call"] = "frozen"
    text: Literal["window", "frame"] = "window"
    sources: Mapping[int, Source] = field(default_factory=dict)
    grade: Grade | None = None
    cond_noise: float = 0.0

    def __post_init__(self):
        count = len(self.frames)
        object.__setattr__(self, "frames", tuple(self.frames))
        object.__setattr__(self, "positions", tuple(self.positions) or tuple(float(i) for i in range(count)))
        object.__setattr__(
            self, "role", tuple(self.role) or tuple("make" if moves else "context" for moves in self.moves.tolist())
        )
        object.__setattr__(self, "block", tuple(self.block) or tuple(range(count)))
        if self.levels.shape[1:] != (count,) or len(self.positions) != count or len(self.role) != count:
            raise PlanError(f"window of {count} frames has levels {tuple(self.levels.shape)}")

    @property
    def calls(self) -> int:
        """Model calls of the window."""
        return len(self.levels) - 1

    @property
    def moves(self) -> Tensor:
        """(frames,) bool: the columns whose level changes."""
        return (self.levels != self.levels[0]).any(0)


def with_guides(window: Window, guides: int, at: float | None = None) -> Window:
    """The window with `guides` clean frames, which are the given end: the first stands behind the frames that the window
    shows, or at a place in the take."""
    shown = [p for p, role in zip(window.positions, window.role) if role != "guide"]
    first = shown[-1] + 1 if at is None else shown[0] + at - window.frames[0]
    return guided(window, [Guide(Source("end", i), first + i) for i in range(guides)])


@dataclass(frozen=True)
class Guide:
    """A column that the model sees and nobody else. position: in latent frames; strength 1 is clean."""

    source: Source
    position: float
    strength: float = 1.0


def guided(window: Window, guides: Sequence[Guide]) -> Window:
    """The window with guides after its frames: each starts at level 1 - strength and falls with the rest from there on."""
    if not guides:
        return window
    seen, count = len(window.frames), len(guides)
    levels = window.levels.new_zeros(len(window.levels), seen + count)
    levels[:, :seen] = window.levels
    for i, guide in enumerate(guides):
        levels[:, seen + i] = window.levels.max(1).values.clamp_max(1 - guide.strength)
    blend = None
    if window.blend is not None:
        blend = window.blend.new_ones(seen + count)
        blend[:seen] = window.blend
    numbers = range(window.frames[-1] + 1, window.frames[-1] + 1 + count)
    roles: list[Role] = ["guide"] * count
    return replace(
        window,
        frames=(*window.frames, *numbers),
        levels=levels,
        positions=(*window.positions, *(guide.position for guide in guides)),
        role=(*window.role, *roles),
        block=(*window.block, *[window.block[-1] + 1] * count),
        blend=blend,
        sources={**window.sources, **{number: guide.source for number, guide in zip(numbers, guides)}},
    )


def check(window: Window, limits: Limits) -> None:
    """Raise PlanError unless the window is one that a family of these limits can run."""
    levels, count = window.levels, sum(role != "guide" for role in window.role)
    if limits.causal and "guide" in window.role:
        raise PlanError("a block-causal model never sees what comes after a frame, so no end frame can guide it")
    if count > limits.view:
        raise PlanError(
            f"a window of {count} latent frames, but this model sees at most {limits.view}: use a shorter window"
        )
    if (levels[1:] > levels[:-1]).any() or levels.min() < 0 or levels.max() > 1:
        raise PlanError("noise levels of a window must lie in [0, 1] and never rise")
    if any(b <= a for a, b in pairwise(window.frames)) or any(b < a for a, b in pairwise(window.block)):
        raise PlanError("frames and blocks of a window must be in order")
    if limits.context == "beside" and "context" in window.role:
        raise PlanError(
            "this model is told of known frames beside x, it cannot hold them in place: use --plan crossclip"
        )
    if limits.context == "in place" and "beside" in window.role:
        raise PlanError("this model holds known frames in place, it cannot be told of them beside x: use --plan relay")
    if limits.context == "none" and set(window.role) != {"make"}:
        raise PlanError(
            "this checkpoint is text to video, not diffusion forcing: it cannot go on from frames that are known, so it "
            "makes single clips (--plan clip)"
        )
    moving = levels[:, window.moves]
    if not limits.mixed and (moving != moving[:, :1]).any():
        raise PlanError("this model cannot see frames at different noise levels in one call: use a plan without lag")


class Repeated:
    """Windows that differ in their frames alone are made once, so that going through a plan of days is cheap."""

    MOST = 64  # windows that are kept; a plan repeats after fewer

    def __init__(self) -> None:
        self.made: dict[Hashable, Window] = {}

    def __call__(self, alike: Hashable, frames: Sequence[int], make: Callable[[], Window]) -> Window:
        """The window of these frames; make: gives it, or one that is like it as far as `alike` says."""
        if alike not in self.made:
            if len(self.made) == self.MOST:
                self.made.clear()
            self.made[alike] = make()
        made = self.made[alike]
        by = frames[0] - made.frames[0]
        sources = {f + by: s.moved(by) for f, s in made.sources.items()} if by else made.sources
        return replace(made, frames=frames, sources=sources)


@dataclass(frozen=True)
class Cost:
    """What a plan will take, counted without a model."""

    windows: int
    takes: int
    calls: int
    columns: int  # latent frames through the network, summed over calls
    view: int  # the widest window, in latent frames


def cost(windows: Iterable[Window]) -> Cost:
    """Count the windows of a finite plan."""
    count = takes = calls = columns = view = 0
    for window in windows:
        count += 1
        takes += count == 1 or window.cut is not None
        calls += window.calls
        columns += window.calls * len(window.frames)
        view = max(view, len(window.frames))
    return Cost(count, takes, calls, columns, view)
