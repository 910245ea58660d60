"""Stable Video Infinity on Wan image-to-video: the conditioning of each clip, the two experts, and the published noise.

Sources: vita-epfl/Stable-Video-Infinity (1.0) and its 2.0 and 2.0 Pro scripts. Shapes as in `image_conditioning`; K
context frames at the start of a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.geometry import frames_of_latents
from longtake.core.noise import CounterNoise, Noise, NoiseKey
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.encoders.clip_vision import ClipVision
from longtake.models.first_frames import known, masked
from longtake.models.interfaces import Conditioning, ContextFrames, Loras, Session
from longtake.models.lora.per_scene import LoraSet
from longtake.models.wan.image_conditioning import ConcatConditioning
from longtake.models.wan.presets import SviChaining
from longtake.models.wan.vae import WanVAE
from longtake.planning.script import network_of
from longtake.planning.window import Window


@dataclass(frozen=True)
class SviImageConditioner:
    """The conditioning of a clip (1.0): its K context frames, then padding, encoded as one video, with latent 0 in the mask.

    pad: "grey" (zeros), or the first "image" of the whole video repeated. image_encoder: CLIP, which encodes the first of
    the K frames.
    """

    vae: WanVAE
    image_encoder: ClipVision | None
    pad: str

    @torch.no_grad()
    def __call__(self, window: Window, context: ContextFrames) -> ConcatConditioning:
        """Return the conditioning of a window. Raises PlanError if there is no image to start from."""
        if context.pixels is None or context.image is None:
            raise PlanError("Stable Video Infinity starts from an image: give one with --image")
        _check_window(window)
        frames = context.pixels[:, :, :0] if context.no_context else context.pixels
        count = frames_of_latents(len(window.frames), self.vae.temporal_compression)
        rest = count - frames.shape[2]
        image = context.image if self.pad == "image" and not context.no_context else torch.zeros_like(context.image)
        padded = torch.cat([frames, image.to(frames).expand(len(frames), -1, rest, -1, -1)], 2)
        mask = known(int(not context.no_context), len(window.frames), self.vae.temporal_compression)
        return ConcatConditioning(
            masked(mask, self.vae.encode(padded)),
            self.image_encoder.encode_image(context.pixels[:, :, 0]) if self.image_encoder else None,
        )


@dataclass(frozen=True)
class SviProConditioner:
    """The conditioning of a clip (2.0 Pro): the anchor, the last latent of the previous clip if there is one, then zeros."""

    temporal_compression: int

    def __call__(self, window: Window, context: ContextFrames) -> ConcatConditioning:
        """Return the conditioning of a window. Raises PlanError if there is no image to start from."""
        if not context.latents:
            raise PlanError("Stable Video Infinity starts from an image: give one with --image")
        _check_window(window)
        latents = torch.stack([context.latents[frame] for frame in sorted(context.latents)], 2)
        latents = latents[:, :, :0] if context.no_context else latents
        zeros = latents.new_zeros(*latents.shape[:2], len(window.frames) - latents.shape[2], *latents.shape[3:])
        return ConcatConditioning(
            masked(
                known(int(not context.no_context), len(window.frames), self.temporal_compression),
                torch.cat([latents, zeros], 2),
            )
        )


def _check_window(window: Window) -> None:
    """Raise PlanError unless the window is a whole clip without keyframes."""
    if window.frames[0] != 0 or "keyframe" in window.role:
        raise PlanError(
            "Stable Video Infinity is conditioned on the first frames of a clip: use --strategy clip-conditioned"
        )


def image_conditioner(
    chain: SviChaining, vae: WanVAE, image_encoder: ClipVision | None
) -> SviImageConditioner | SviProConditioner:
    """Return the conditioner of a chain of clips."""
    return (
        SviProConditioner(vae.temporal_compression)
        if chain.pad == "latents"
        else SviImageConditioner(vae, image_encoder, chain.pad)
    )


class Experts:
    """A `Session` of two networks: one for sigmas of at least `switch`, one for those below (Wan 2.2 A14B)."""

    def __init__(self, high: Callable[[], Session], low: Callable[[], Session], switch: float):
        self.sessions, self.switch = (high(), low()), switch
        self.wrapped = self.sessions

    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Begin the window in both sessions."""
        for session in self.sessions:
            session.begin(window, context, cond)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the velocity of the expert for this sigma."""
        return self.sessions[float(sigma.max()) < self.switch](x, sigma)

    def finish(self, window: Window, x: Tensor) -> None:
        """Finish the window in both sessions."""
        for session in self.sessions:
            session.finish(window, x)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of both sessions."""
        return {f"{i}.{name}": t for i, session in enumerate(self.sessions) for name, t in session.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore both sessions."""
        for i, session in enumerate(self.sessions):
            mine = f"{i}."
            session.load({name.removeprefix(mine): t for name, t in state.items() if name.startswith(mine)})


class LoraPair:
    """A `LoraAdapter` of two networks; LoRA files are named high:FILE or low:FILE."""

    def __init__(self, high: LoraSet, low: LoraSet):
        self.files = {"high": high, "low": low}

    def check(self, loras: Loras) -> None:
        """Raise WeightsError for a LoRA that does not fit, or that names neither network."""
        for name, mine in self._sorted(loras).items():
            self.files[name].check(mine)

    def use(self, loras: Loras) -> None:
        """Give each network its LoRAs."""
        for name, mine in self._sorted(loras).items():
            self.files[name].use(mine)

    def _sorted(self, loras: Loras) -> dict[str, Loras]:
        """Sort LoRAs by the network that they are named for."""
        found: dict[str, Loras] = {"high": (), "low": ()}
        for lora, strength in loras:
            name, file = network_of(lora)
            if not name:
                raise WeightsError(
                    f"this model has two networks: name the LoRA for one of them, as high:{file} or low:{file}"
                )
            found[name] += ((file, strength),)
        return found


@dataclass(frozen=True)
class ClipNoise:
    """The published noise: one draw of torch's CPU generator for a whole clip, seeded factor * (first + clip), in `dtype`.

    length: latent frames of a clip. A solver keeps the dtype, so bfloat16 noise makes a bfloat16 state, as published.
    Noise that the published code does not draw (when an anchor window is resampled) is `CounterNoise`.
    """

    length: int
    factor: int = 42
    first: int = 0
    dtype: torch.dtype = torch.float32

    def __call__(self, keys: Sequence[NoiseKey], shape: tuple[int, int, int]) -> Tensor:
        """Return the noise (1, C, F, h, w) of the keys: a `Noise` of one video."""
        seed = self.factor * (self.first + keys[0].clip)
        if keys[0].purpose != "start":
            return CounterNoise((seed,))(keys, shape).to(self.dtype)
        channels, *size = shape
        clip = torch.randn((1, channels, self.length, *size), generator=torch.Generator().manual_seed(seed))
        return clip[:, :, [key.index for key in keys]].to(self.dtype)


def noise(chain: SviChaining, length: int, seeds: Sequence[int], dtype: torch.dtype) -> Noise:
    """Return the noise of a chain of clips. Raises PlanError for several videos at once."""
    if len(seeds) != 1:
        raise PlanError("the published seeds of Stable Video Infinity generate one video at a time: ask for one")
    return ClipNoise(length, chain.seed, seeds[0], dtype)
