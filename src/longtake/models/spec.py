"""A checkpoint without its weights: its settings, and what a plan costs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from longtake.core.guidance_settings import Guidance
from longtake.models.model import Model, SamplingDefaults, VideoFormat
from longtake.planning.limits import Limits
from longtake.planning.window import Window

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Work:
    """The work of a plan, counted from the shape of the network.

    tokens: of the largest step. flops: floating-point operations of all steps with all branches of guidance.
    step_flops: of one step of every window, with one branch. seconds: the time that the longest window spans. activations:
    bytes beside the weights in the largest step, about.
    """

    tokens: int
    flops: float
    step_flops: float
    seconds: float
    activations: int = 0


@dataclass(frozen=True)
class TwoStageSpec:
    """The second stage of a checkpoint that has its latent upsampler: sigmas before every step of each stage, and the
    guidance of the second."""

    first_sigmas: tuple[float, ...]
    second_sigmas: tuple[float, ...]
    guidance: Guidance


@dataclass(frozen=True)
class MetaModel:
    """A model on PyTorch's meta device, where tensors have shapes and no memory.

    parts: its networks by name. cached_bytes: bytes that its sessions hold now: keys and values of earlier frames, and of
    prompts.
    """

    model: Model
    parts: Mapping[str, nn.Module]
    cached_bytes: Callable[[], tuple[int, int]]


class MetaNetworks(Protocol):
    """What a family gives so that the engine can run a plan on the meta device and count its memory and operations."""

    @property
    def layers(self) -> int:
        """Layers of the transformer."""

    @property
    def copies(self) -> int:
        """Transformers of this shape, such as the two experts of Wan 2.2."""

    @property
    def text_bytes(self) -> int:
        """Bytes of the text encoder's weights."""

    def on_meta(self, layers: int) -> MetaModel:
        """Return the model with the first `layers` layers of its transformer."""

    def transformer(self) -> nn.Module:
        """Return the whole transformer on the meta device; its layers are `blocks`."""

    def step_flops(self, frames: int, layers: int | None = None, words: int | None = None) -> float:
        """Count the operations of one step over `frames` latent frames, with one branch of guidance.

        words: text tokens (None: those of the text encoder).
        """


@dataclass(frozen=True)
class CheckpointSpec:
    """A checkpoint without its weights.

    temporal_compression: output frames per latent frame. Either `meta` or `work` says what a plan costs: meta lets
    the engine run it on the meta device; work counts it from the shape of the network, at a size and with a guidance.
    two_stages: see `TwoStageSpec`. longest_seconds: the longest window that positions reach (None: they have no end). weights: bytes of every part, where `work`
    counts.
    """

    name: str
    format: VideoFormat
    limits: Limits
    defaults: SamplingDefaults
    temporal_compression: int = 4
    meta: MetaNetworks | None = None
    work: Callable[[Iterable[Window], VideoFormat, Guidance], Work] | None = None
    two_stages: TwoStageSpec | None = None
    longest_seconds: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
