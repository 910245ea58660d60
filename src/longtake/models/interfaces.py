"""The protocols that a model family implements, and the values that the engine passes to it.

Shapes: B videos, C latent channels, F latent frames, H W latent size, P prompts, L text tokens, D text width,
T output frames. The noise level (sigma) is that of flow matching: 1 is pure noise, 0 is clean video, and the velocity
is noise - video. Each family converts sigmas to its own timesteps inside its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from longtake.planning.window import Window

if TYPE_CHECKING:
    from torch import Tensor

Loras = tuple[tuple[str, float], ...]  # the path and strength of each LoRA


@dataclass(frozen=True)
class PromptEmbedding:
    """One encoded prompt. key: equal keys mean equal embeddings. embedding: (B, L, D)."""

    key: str
    embedding: Tensor


@dataclass(frozen=True)
class Conditioning:
    """The script's part of what a window is conditioned on.

    texts: the prompts in view. scene: for each latent frame in view, the index of its prompt in `texts`. fps: output
    frames per second. loras: those of the scene that the first new frame belongs to. control: the control signal of each
    latent frame in view, (F, temporal_compression, D) (None: unconditional, for a model with a control input).
    """

    texts: tuple[PromptEmbedding, ...]
    scene: tuple[int, ...]
    fps: float = 24.0
    loras: Loras = ()
    control: Tensor | None = None


@dataclass(frozen=True)
class ContextFrames:
    """The clean frames that a window continues.

    latents: clean latents of frames in view, {frame: (B, C, H, W)}. pixels: the output frames (B, 3, T, H, W) in [-1, 1]
    with which the clip began, if it began with pixels. anchor: the first latent (B, C, h, w) of the shot. image: the
    first output frame (B, 3, 1, H, W) of the shot, for a model conditioned on pixels. no_context: the window generates
    its context frames again, so the network is not conditioned on any of them.
    """

    latents: Mapping[int, Tensor]
    pixels: Tensor | None = None
    anchor: Tensor | None = None
    image: Tensor | None = None
    no_context: bool = False


class Session(Protocol):
    """One rollout's use of a network: its cached text keys and values, and its memory of earlier frames.

    If `NetworkFeatures.guidance_blocks` is not 0, a step also takes `perturb` (see `longtake.core.guidance_settings.Perturb`) and
    appends the velocities of the videos that it repeats.
    """

    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Prepare for a window: forget frames that left the view, and remember clean frames that are new in it."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the velocity (B, C, F, H, W) of x (B, C, F, H, W) at sigma (F,) or (B, F)."""

    def finish(self, window: Window, x: Tensor) -> None:
        """End a window: a causal model writes the keys and values of the frames that became clean."""

    def state(self) -> dict[str, Tensor]:
        """Return everything that a resumed session needs, as tensors."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""


@runtime_checkable
class SessionWrapper(Protocol):
    """A Session around one or more others, such as one that offloads the network. wrapped: the sessions inside."""

    wrapped: tuple[Session, ...]


class Decoder(Protocol):
    """A streaming decoder of one clip. It may lag: a frame that depends on later latents is returned with those."""

    def push(self, latents: Tensor) -> Tensor:
        """Decode the next latents (B, C, F, h, w) -> the output frames (B, 3, T, H, W) that they complete, about [-1, 1]."""

    def flush(self) -> Tensor:
        """Return the frames that are still withheld at the end of a clip."""


class VAE(Protocol):
    """Video to latents and back, causal in time: latent 0 holds one frame, every later one `temporal_compression` frames.

    spatial_compression: output pixels per latent pixel, in height and in width. channels: of a latent. replay_latents:
    how many latents, replayed into a new decoder, restore it bit for bit.
    """

    temporal_compression: int
    spatial_compression: int
    channels: int
    replay_latents: int

    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames (B, 3, T, H, W) in [-1, 1], T = 1 + temporal_compression * k -> normalised latents (B, C, F, h, w)."""

    def decoder(self) -> Decoder:
        """Return a new streaming decoder."""


class TextEncoder(Protocol):
    """Prompts to embeddings."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts -> (P, L, D)."""

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Return the words of the prompt that a closed vocabulary lacks (always empty for an open one)."""

    def cut_off(self, prompt: str) -> str:
        """Return the end of the prompt that `encode` does not read, because it reads a limited number of tokens."""


class LoraAdapter(Protocol):
    """Loads LoRAs into a network that several sessions share."""

    def check(self, loras: Loras) -> None:
        """Raise ValueError if one of the LoRAs does not fit the network; change nothing."""

    def use(self, loras: Loras) -> None:
        """Give the network exactly these LoRAs; () restores its own weights bit for bit."""
