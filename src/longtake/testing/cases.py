"""The tiny contract models of every registered family, and short generations with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models import load
from longtake.models.family import ContractCase
from longtake.models.interfaces import Conditioning, ContextFrames, Loras, PromptEmbedding, Session
from longtake.models.model import Model
from longtake.models.registry import FAMILIES
from longtake.models.runtime.load_options import LoadOptions
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import make_plan
from longtake.planning.window import Window

PROMPT, LATENTS = "a red ball", 3


@dataclass(frozen=True)
class OpenCase:
    """A contract case and the model that was opened for it. path: its checkpoint (None for a toy model)."""

    family: str
    case: ContractCase
    model: Model
    path: Path | None

    def load(self, **options: object) -> Model:
        """Open the model again, with fields of `LoadOptions`. Raises ValueError for options that do not suit it."""
        return load(self.path or self.family, load_options=LoadOptions(**{"device": "cpu"} | options))  # type: ignore[arg-type]


def family_cases() -> Iterator[tuple[str, str]]:
    """Yield (family, name of a contract case) for every registered family."""
    for name, line in FAMILIES.items():
        assert line.has("cases"), f"the registry line of {name} names no contract cases"
        yield from ((name, case) for case in line.get("cases"))


def open_case(family: str, case: str, folder: Path) -> OpenCase:
    """Write the checkpoint of a case into a new folder, if it has one, and open it."""
    found: ContractCase = FAMILIES[family].get("cases")[case]
    path = None if found.write is None else found.write(folder)
    return OpenCase(family, found, load(path or family), path)


def latents(model: Model, frames: int = LATENTS) -> Tensor:
    """Return latents (1, C, F, h, w) of fixed noise."""
    return torch.randn(latent_shape(model, frames), generator=torch.Generator().manual_seed(1))


def uniform(sigma: float) -> Tensor:
    """Return one sigma for every latent frame, (F,)."""
    return torch.full((LATENTS,), sigma, dtype=torch.float64)


def velocity(model: Model, sigma: Tensor | None = None, loras: Loras = ()) -> Tensor:
    """Return the velocity of a first step on fixed noise."""
    session = model.session()
    begin(session, model, loras)
    with torch.inference_mode():
        return session(latents(model), uniform(1.0) if sigma is None else sigma)


def video(case: ContractCase, model: Model, loras: Loras = ()) -> Tensor:
    """Generate the case's short video, with these LoRAs -> uint8 frames (T, H, W, 3)."""
    script = Script.of([Scene(PROMPT, case.frames / model.fps, lora=loras)], model.fps)
    rollout = build_rollout(model, script, make_plan(case.strategy, **case.options))
    parts, at = [], 0
    for event in rollout.run():
        if isinstance(event, Frames):
            assert event.first == at, "frames are out of order"
            at += event.frames.shape[1]
            parts.append(event.frames[0])
    return torch.cat(parts)


def begin(session: Session, model: Model, loras: Loras = ()) -> None:
    """Begin a window of LATENTS frames with one prompt."""
    embedding = PromptEmbedding(PROMPT, model.text_encoder.encode([PROMPT]))
    window = next(
        iter(make_plan("clip", steps=2).windows(_frames(model), model.vae.temporal_compression, model.limits))
    )
    conditioning = Conditioning((embedding,), (0,) * LATENTS, model.fps, loras)
    with torch.inference_mode():
        session.begin(_in_blocks(window, model), ContextFrames({}), conditioning)


def _in_blocks(window: Window, model: Model) -> Window:
    assert len(window.frames) == LATENTS, f"{model.name} plans {len(window.frames)} latent frames, not {LATENTS}"
    return window


def _frames(model: Model) -> int:
    return 1 + model.vae.temporal_compression * (LATENTS - 1)


def latent_shape(model: Model, frames: int = LATENTS) -> tuple[int, int, int, int, int]:
    """Return (1, C, F, h, w) of the model's latents."""
    scale = model.vae.spatial_compression
    return 1, model.vae.channels, frames, model.size[0] // scale, model.size[1] // scale
