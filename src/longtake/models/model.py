"""A loaded checkpoint: everything the engine needs of a model family, grouped by what it is about."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.core.errors import SettingsError
from longtake.core.guidance_settings import Guidance
from longtake.core.units import check_pixels
from longtake.models.interfaces import VAE, LoraAdapter, Loras, Session, TextEncoder
from longtake.planning.limits import Limits

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from longtake.core.noise import Noise


@dataclass(frozen=True)
class ModelInfo:
    """Where a model comes from and how a person recognises it.

    name: shown to the user. family: its line in `longtake.models.registry`. digest: SHA-256 of its files. path: its
    folder or file. source: the name under which `load` finds it again, where the path alone does not say it.
    builtin: whether it is part of the package. vocabulary: the prompts that a model with a closed vocabulary
    understands. note: a remark about how it was opened, shown before a run.
    """

    name: str
    family: str
    digest: str = ""
    path: Path | None = None
    source: str = ""
    builtin: bool = False
    vocabulary: str = ""
    note: str = ""


@dataclass(frozen=True)
class VideoFormat:
    """The video that a model generates.

    fps: its own frame rate. size: (height, width) in output pixels. rates: all frame rates that it can generate (empty:
    any). size_multiple: output pixels of which height and width are multiples (0: those of a latent pixel).
    tokens_per_frame: tokens of one latent frame inside the network (0: not counted).
    """

    fps: float
    size: tuple[int, int]
    rates: tuple[float, ...] = ()
    size_multiple: tuple[int, int] = (0, 0)
    tokens_per_frame: int = 0


@dataclass(frozen=True)
class SamplingDefaults:
    """The sampling settings that a checkpoint was published with; a run may override each of them.

    strategy: name of the long-video strategy, strategy_options: its options. sampling_options: the options (steps,
    shift, grid) that suit the checkpoint under any strategy. solver: see `longtake.core.solvers`. shift_by_tokens: the
    timestep shift follows from the number of tokens in a window. image_cond_blur, image_cond_crf: how frames given as input
    are blurred and compressed before they are encoded (see `longtake.media.conditioning_frames`). published: fields of
    `SamplingOptions` with which the published code is reproduced where these defaults differ on purpose. noise: makes the published noise of videos with these
    seeds (None: `CounterNoise`).
    """

    strategy: str = "sliding"
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    sampling_options: Mapping[str, Any] = field(default_factory=dict)
    guidance: Guidance = field(default_factory=Guidance)
    negative_prompt: str = ""
    solver: str = "euler"
    shift_by_tokens: bool = False
    image_cond_blur: float = 0.0
    image_cond_crf: int = 0
    published: Mapping[str, Any] = field(default_factory=dict)
    noise: Callable[[Sequence[int]], Noise] | None = None

    @property
    def guidance_scale(self) -> float:
        """The largest classifier-free guidance scale of any noise level."""
        return max(self.guidance.scale)


@dataclass(frozen=True)
class LatentDecoding:
    """How clean latents are prepared for the decoder.

    noise_sigma: sigma of the noise that is mixed in, for a decoder trained to remove some (LTX `decode_noise_scale`).
    tone_map_compression: how far the range of the latents is compressed first (0: not at all; see
    `longtake.core.latent_stats`).
    """

    noise_sigma: float = 0.0
    tone_map_compression: float = 0.0


@dataclass(frozen=True)
class SecondStage:
    """A second stage at `scale` times the height and width, which starts from the upsampled latents of the first.

    sigmas: before every step of the second stage. upsample: normalised latents (B, C, F, h, w) to those of the larger size.
    """

    sigmas: tuple[float, ...]
    guidance: Guidance
    upsample: Callable[[Tensor], Tensor]
    scale: int = 2


@dataclass(frozen=True)
class NetworkFeatures:
    """What a network can do beyond turning a prompt into video.

    lora: loads the LoRAs that scenes name (None: the model supports none). control_width: numbers of a control signal
    that the network takes per output frame (0: it takes none). guidance_blocks: blocks whose self-attention
    perturbed-attention guidance can skip (0: none). max_latents_at_fps: latent frames that one step can see at a frame
    rate (None: `Limits.view` at any rate). posterior: mean and standard deviation of the normalised latents
    (B, C, F, h, w) of frames (None: only the mean is known). one_part_on_device: text encoder, network and VAE share the device one after
    another, so that no two of them compute at once. dtype: in which the network computes (None: unknown).
    """

    lora: LoraAdapter | None = None
    control_width: int = 0
    guidance_blocks: int = 0
    max_latents_at_fps: Callable[[float], int] | None = None
    posterior: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    one_part_on_device: bool = False
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint. `session()` makes a fresh `Session`.

    With a `second_stage`, the guidance and sampling options of `defaults` are those of the first stage, at half of `size`.
    """

    info: ModelInfo
    format: VideoFormat
    limits: Limits
    session: Callable[[], Session]
    vae: VAE
    text_encoder: TextEncoder
    defaults: SamplingDefaults = SamplingDefaults()
    decoding: LatentDecoding = LatentDecoding()
    features: NetworkFeatures = NetworkFeatures()
    second_stage: SecondStage | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """The name that is shown to the user."""
        return self.info.name

    @property
    def fps(self) -> float:
        """The model's own frame rate."""
        return self.format.fps

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the video in output pixels."""
        return self.format.size


def check_loras(model: Model, loras: Loras) -> None:
    """Check, before anything is generated, that the model can use these LoRA files. Raises ValueError."""
    if model.features.lora is None:
        raise SettingsError(
            f"{model.name} supports no LoRA, but a scene names {loras[0][0]}: remove `lora` from the script"
        )
    model.features.lora.check(loras)


def with_size(model: Model, size: tuple[int, int]) -> Model:
    """Return the model generating video of (height, width) pixels. Raises PlanError with the nearest valid size."""
    own = model.format
    if size == own.size:
        return model
    units = [unit or model.vae.spatial_compression for unit in own.size_multiple]
    check_pixels(size, units)
    before, now = (math.prod(side // unit for side, unit in zip(s, units)) for s in (own.size, size))
    tokens = own.tokens_per_frame * now // before if before else now
    return replace(model, format=replace(own, size=size, tokens_per_frame=tokens))


def with_fps(model: Model, fps: float) -> Model:
    """Return the model generating video at another frame rate, at which one step may see fewer latent frames."""
    most = model.features.max_latents_at_fps
    if most is None:
        return model
    return replace(
        model, limits=replace(model.limits, max_latent_frames=min(model.limits.max_latent_frames, most(fps)))
    )
