"""Stable Video Infinity on Wan image-to-video: what each clip is told, which expert makes it, and the published noise.

Sources: vita-epfl/Stable-Video-Infinity (1.0) and its 2.0 and 2.0 Pro scripts. Shapes as in `wan_image`; K known
output frames at the start of a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from longtake.geometry import frames_of_latents
from longtake.models.base import Cond, Loras, Model, Past, Session
from longtake.models.clip import ClipVision
from longtake.models.lora_keys import Spelling
from longtake.models.lora_scene import Adapted, Files
from longtake.models.presets import Chain
from longtake.models.wan_codec import WanCodec
from longtake.models.wan_image import Beside, known, masked
from longtake.models.weights import WeightsError
from longtake.noise import Keyed, Noise, Spot
from longtake.plan import PlanError, Window
from longtake.script import network_of


@dataclass(frozen=True)
class ClipTeller:
    """What a clip is told beside x: its K known frames, then `pad`, as one encoded video, of which the mask marks latent 0.

    pad: "grey" zeros, or the "image" with which the whole video began, again and again. eyes: CLIP sees the first of
    the K frames.
    """

    codec: WanCodec
    eyes: ClipVision | None
    pad: str

    @torch.no_grad()
    def __call__(self, window: Window, past: Past) -> Beside:
        """PlanError if there is no picture to begin with."""
        if past.frames is None or past.image is None:
            raise PlanError("Stable Video Infinity begins with an image: give it one (--image)")
        _from_the_start(window)
        frames = past.frames[:, :, :0] if past.untold else past.frames
        count = frames_of_latents(len(window.frames), self.codec.stride)
        rest = count - frames.shape[2]
        image = past.image if self.pad == "image" and not past.untold else torch.zeros_like(past.image)
        padded = torch.cat([frames, image.to(frames).expand(len(frames), -1, rest, -1, -1)], 2)
        mask = known(int(not past.untold), len(window.frames), self.codec.stride)
        return Beside(
            masked(mask, self.codec.encode(padded)), self.eyes.see(past.frames[:, :, 0]) if self.eyes else None
        )


@dataclass(frozen=True)
class LatentTeller:
    """2.0 Pro: the anchor, the last latent of the clip before (none for the first clip), then zeros, all as latents."""

    stride: int

    def __call__(self, window: Window, past: Past) -> Beside:
        """PlanError if there is no picture to begin with."""
        if not past.known:
            raise PlanError("Stable Video Infinity begins with an image: give it one (--image)")
        _from_the_start(window)
        told = torch.stack([past.known[frame] for frame in sorted(past.known)], 2)
        told = told[:, :, :0] if past.untold else told
        zeros = told.new_zeros(*told.shape[:2], len(window.frames) - told.shape[2], *told.shape[3:])
        return Beside(masked(known(int(not past.untold), len(window.frames), self.stride), torch.cat([told, zeros], 2)))


def _from_the_start(window: Window) -> None:
    if window.frames[0] != 0 or "guide" in window.role:
        raise PlanError("Stable Video Infinity is told of the first frames of a clip: use --plan crossclip")


def teller(chain: Chain, codec: WanCodec, eyes: ClipVision | None) -> ClipTeller | LatentTeller:
    """What the clips of a chain are told."""
    return LatentTeller(codec.stride) if chain.pad == "latents" else ClipTeller(codec, eyes, chain.pad)


class Experts:
    """A Session of two networks: one for levels of `switch` and above, one for those below (Wan 2.2)."""

    def __init__(self, high: Callable[[], Session], low: Callable[[], Session], switch: float):
        self.sessions, self.switch = (high(), low()), switch

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        for session in self.sessions:
            session.begin(window, past, cond)

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See `Session`."""
        return self.sessions[float(level.max()) < self.switch](x, level)

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""
        for session in self.sessions:
            session.finish(window, x)

    def state(self) -> dict[str, Tensor]:
        """See `Session`."""
        return {f"{i}.{name}": t for i, session in enumerate(self.sessions) for name, t in session.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
        for i, session in enumerate(self.sessions):
            mine = f"{i}."
            session.load({name.removeprefix(mine): t for name, t in state.items() if name.startswith(mine)})


class Pair:
    """An `Adapter` of two networks: LoRA files are named high:FILE or low:FILE."""

    def __init__(self, high: Files, low: Files):
        self.files = {"high": high, "low": low}

    def check(self, loras: Loras) -> None:
        """See `Adapter`. WeightsError for a file of neither."""
        for name, mine in self._sorted(loras).items():
            self.files[name].check(mine)

    def use(self, loras: Loras) -> None:
        """See `Adapter`."""
        for name, mine in self._sorted(loras).items():
            self.files[name].use(mine)

    def _sorted(self, loras: Loras) -> dict[str, Loras]:
        found: dict[str, Loras] = {"high": (), "low": ()}
        for lora, strength in loras:
            name, file = network_of(lora)
            if not name:
                raise WeightsError(
                    f"this model has two networks, so a LoRA is named for one of them: high:{file} or low:{file}"
                )
            found[name] += ((file, strength),)
        return found


def paired(
    model: Model, high: nn.Module, low: nn.Module, spelling: Spelling | None, at_rest: Callable[[], None] = lambda: None,
    targets: Sequence[str] = (),
) -> Model:  # fmt: skip
    """The model, taking the LoRAs that scenes ask for into its two networks. at_rest, targets: see `Files`."""
    pair = Pair(*(Files(net, spelling, at_rest, targets) for net in (high, low)))
    session = model.session
    return replace(model, session=lambda: Adapted(session(), pair), adapter=pair)


@dataclass(frozen=True)
class ClipNoise:
    """The published noise: one draw of torch's CPU generator for a whole clip, seeded 42 * (first + clip), in `dtype`.

    A solver keeps the dtype, so bfloat16 noise makes a bfloat16 state, as published. Noise that the published code does
    not draw (a light re-sampling) is keyed.
    """

    length: int
    factor: int = 42
    first: int = 0
    dtype: torch.dtype = torch.float32

    def __call__(self, spots: Sequence[Spot], shape: tuple[int, int, int]) -> Tensor:
        """See `Noise`. One video; length is that of a clip in latent frames."""
        seed = self.factor * (self.first + spots[0].take)
        if spots[0].purpose != "start":
            return Keyed((seed,))(spots, shape).to(self.dtype)
        channels, *size = shape
        clip = torch.randn((1, channels, self.length, *size), generator=torch.Generator().manual_seed(seed))
        return clip[:, :, [spot.index for spot in spots]].to(self.dtype)


def noise(chain: Chain, length: int, seeds: Sequence[int], dtype: torch.dtype) -> Noise:
    """The noise of a chain of clips. PlanError for several videos at once."""
    if len(seeds) != 1:
        raise PlanError("the published seeds of Stable Video Infinity make one video at a time")
    return ClipNoise(length, chain.seed, seeds[0], dtype)
