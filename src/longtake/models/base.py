"""The protocols a model family plugs into, and the small values that pass between engine and family.

Shapes: B videos, C latent channels, F latent frames, H W latent size, P prompts, L text tokens, D text width,
T output frames. A noise level is sigma of flow matching: 1 is pure noise, 0 is clean video; the velocity is
noise - video. A family converts levels to its own timesteps inside its own file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from longtake.plan import Limits, PlanError, Window

if TYPE_CHECKING:
    from torch import Tensor

    from longtake.guidance import Guidance
    from longtake.noise import Noise

Loras = tuple[tuple[str, float], ...]  # path and strength of each


@dataclass(frozen=True)
class Text:
    """One encoded prompt. key names it (equal keys, equal embeddings); embedding is (B, L, D)."""

    key: str
    embedding: Tensor


@dataclass(frozen=True)
class Cond:
    """What the model is told of the script: the prompts in view, and which of them each frame in view follows.

    loras: of the scene that the first new frame follows. track: what each latent frame in view is told of a track beside
    the video (F, stride, D) (None: nothing, for a model that takes one: unconditional).
    """

    texts: tuple[Text, ...]
    scene: tuple[int, ...]
    fps: float = 24.0
    loras: Loras = ()
    track: Tensor | None = None


@dataclass(frozen=True)
class Past:
    """What is known before a window: clean latents of frames in view, {frame: (B, C, H, W)}.

    frames: the output frames (B 3 T H W) in [-1, 1] with which the take began, where they were given as pixels.
    anchor: the first latent (B C h w) of the shot. image: its first frame (B 3 1 H W), for a model told of pixels.
    untold: what is known in view is made again here, so nothing of it is told beside x.
    """

    known: Mapping[int, Tensor]
    frames: Tensor | None = None
    anchor: Tensor | None = None
    image: Tensor | None = None
    untold: bool = False


class Session(Protocol):
    """One rollout's use of a network: text keys and values, and what it remembers of frames.

    Where Model.blocks is not 0, a call also takes `perturb` and appends the velocities of the videos that it repeats.
    """

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """Prepare for a window: forget frames that left the view, learn clean frames that are not yet remembered."""

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """Velocity (B C F H W) of x (B C F H W) whose frames stand at level (B F) or (F,)."""

    def finish(self, window: Window, x: Tensor) -> None:
        """A window is done; a causal model writes its memory of the frames that became clean."""

    def state(self) -> dict[str, Tensor]:
        """All that a resumed session needs, as tensors."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Undo `state`."""


class Decoder(Protocol):
    """A streaming decoder of one take. It may lag: a frame that depends on later latents comes with those."""

    def push(self, latents: Tensor) -> Tensor:
        """Latents (B C F h w), in order -> the output frames (B 3 T H W) that they complete, unclamped, about [-1, 1]."""

    def flush(self) -> Tensor:
        """The frames still held back at the end of a take."""


class Codec(Protocol):
    """Video to latents and back, causal in time: latent 0 holds one frame, every later one `stride` frames."""

    stride: int
    scale: int  # output pixels per latent pixel, each way
    channels: int
    reach: int  # latents that, replayed into a new decoder, restore it bit for bit, whatever frames they give

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B 3 T H W) in [-1, 1] with T = 1 + stride * k -> normalised latents (B C F h w)."""

    def decoder(self) -> Decoder:
        """A new streaming decoder."""


class TextEncoder(Protocol):
    """Prompts to embeddings."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """-> (P, L, D)"""

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Words of the prompt that the encoder has never seen (only a closed vocabulary knows)."""


class Adapter(Protocol):
    """Puts LoRAs into a network that sessions share."""

    def check(self, loras: Loras) -> None:
        """Refuse, in words that say what is wrong, LoRAs that do not fit; nothing is changed."""

    def use(self, loras: Loras) -> None:
        """The network with exactly these LoRAs, whatever it had before; () restores its own weights bit for bit."""


@dataclass(frozen=True)
class Refine:
    """A second pass at `scale` times the height and width, from the upsampled latents of the first.

    levels: before every call of the second pass; upsample: normalised latents (B C F h w) to those of the larger size.
    """

    levels: tuple[float, ...]
    guidance: Guidance
    upsample: Callable[[Tensor], Tensor]
    scale: int = 2


@dataclass
class Model:
    """A loaded checkpoint: everything the engine needs of a family.

    session() makes a fresh Session. size is (height, width) in output pixels. guidance, plan and options are the
    defaults of the checkpoint; sampling holds the options (steps, shift, grid) that suit it under any plan.
    digest identifies the weights. vocabulary says what a closed-vocabulary model understands. rates: the frame rates
    that it can make (empty: any). tokens: of one latent frame, as the network counts them (0: not counted).
    unit: output pixels of which height and width are multiples (0: those of a latent pixel).
    decode_noise: level of the noise in the latents that the decoder takes, if it was trained to remove some.
    solver: the one that suits it (see longtake.solve). builtin: part of the package, found by its name. source: the name
    under which `load` finds it again, where the path alone does not say it.
    noise: makes the published noise of a video of these seeds, where there is one (None: keyed noise).
    adapter: takes the LoRAs that scenes ask for (None: the model takes none).
    track: numbers of a track that it is told of every output frame (0: it takes none).
    turns: its parts take turns on a device, so that no two of them are at work at once.
    guide: the guidance that suits it, where it is more than `guidance`. blocks: those whose self-attention guidance can
    replace by its values (0: none). tone: how far its latents are pressed together before they are decoded. refine: how
    it makes `size` from half of it, in which case guide and sampling are those of the first pass. span: latent frames that
    a call may see at a frame rate, where that decides. shift_by_tokens: the usual shift is that of the tokens of a window.
    note: what is to be known of how it was opened.
    """

    name: str
    family: str
    limits: Limits
    session: Callable[[], Session]
    codec: Codec
    text: TextEncoder
    fps: float
    size: tuple[int, int]
    guidance: float = 1.0
    negative: str = ""
    plan: str = "sliding"
    options: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    path: Path | None = None
    vocabulary: str = ""
    rates: tuple[float, ...] = ()
    tokens: int = 0
    unit: tuple[int, int] = (0, 0)
    decode_noise: float = 0.0
    device: str = "cpu"
    solver: str = "euler"
    builtin: bool = False
    source: str = ""
    noise: Callable[[Sequence[int]], Noise] | None = None
    adapter: Adapter | None = None
    guide: Guidance | None = None
    track: int = 0
    turns: bool = False
    blocks: int = 0
    tone: float = 0.0
    refine: Refine | None = None
    span: Callable[[float], int] | None = None
    shift_by_tokens: bool = False
    note: str = ""

    def takes(self, loras: Loras) -> None:
        """ValueError says why these LoRA files cannot be used, before anything is made with them."""
        if self.adapter is None:
            raise ValueError(f"{self.name} takes no LoRA, but a scene asks for {loras[0][0]}: leave `lora` out")
        self.adapter.check(loras)


def sized(model: Model, size: tuple[int, int]) -> Model:
    """The model making video of another (height, width). PlanError names the nearest size that is whole."""
    if size == model.size:
        return model
    units = [unit or model.codec.scale for unit in model.unit]
    if any(side < 1 or side % unit for side, unit in zip(size, units)):
        near = " x ".join(str(max(unit, round(side / unit) * unit)) for side, unit in zip(size, units))
        raise PlanError(f"{size[0]} x {size[1]} pixels are not whole latents of {units[0]} x {units[1]}: use {near}")
    before, now = (math.prod(side // unit for side, unit in zip(s, units)) for s in (model.size, size))
    return replace(model, size=size, tokens=model.tokens * now // before if before else now)


def paced(model: Model, fps: float) -> Model:
    """The model making video at another rate, at which a call may see fewer frames."""
    if model.span is None:
        return model
    return replace(model, limits=replace(model.limits, view=min(model.limits.view, model.span(fps))))
