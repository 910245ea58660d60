"""The settings that all recipes for a Wan video network share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from longtake.pocket.clips import Source
from longtake.train.datasets.prepared_folder import FootageConfig


@dataclass(frozen=True)
class VideoConfig:
    """Network, clips, captions and loss of a recipe for a Wan video network.

    init: a model or run to start from (see `weights.init_weights`); its text encoder and VAE are used unless `text` and
    `vae` name others. network: a WanConfig, or with `init` the settings that differ from it. text: folder with
    text_encoder/ and tokenizer/. vae: folder of the VAE. image_encoder: folder of the CLIP encoder, for a network that is
    conditioned on image features (default: the one of `init`).

    data: folder of latents; without it, `clips` clips of `source` are encoded into the run's folder.
    clips: number of pocket clips that are encoded. source: a table, the pocket clips to encode.
    folder: a folder that `longtake data prepare` wrote, in place of data, clips and source.
    footage: a table, how the shots of `folder` become clips.

    frames: latent frames per step, over all videos; of a prepared folder, latent frames of its first size.
    length_schedule: stages (share of the run, latent frames per video); a stage with several lengths draws one per step.
    steps: of the whole run, as in [loop]. caption_dropout: share of videos without a caption. short_caption_share: share of
    videos whose captions name the motion alone.

    sprite_loss_weight: extra weight of the sprite in the loss. context_sigma_max: frames with sigma up to this count as
    context and are excluded from the loss. shift: timestep shift of the sigmas. eval_prompts: prompts of an evaluation.
    card: entries of the finished model's card (see `weights.model_card.ModelCard`).
    """

    text: str = ""
    vae: str = ""
    image_encoder: str = ""
    init: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    clips: int = 3072
    source: Source | None = None
    frames: int = 75
    length_schedule: Sequence[tuple[float, Sequence[int]]] = ((1.0, (25,)),)
    steps: int = 0
    caption_dropout: float = 0.1
    short_caption_share: float = 0.0
    sprite_loss_weight: float = 5.0
    context_sigma_max: float = 0.05
    shift: float = 3.0
    eval_prompts: int = 12
    card: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    footage: FootageConfig | None = None

    def __post_init__(self) -> None:
        if self.folder and (self.data or self.source):
            raise ValueError("clips come from one place: set only one of `folder`, `data` and `source`")
        if self.folder and self.short_caption_share:
            raise ValueError("short_caption_share is for pocket clips: a prepared folder has only its own captions")
        if self.footage and not self.folder:
            raise ValueError("`footage` says how shots of a prepared folder become clips: set `folder` too")
        if not (self.vae or self.data or self.init):
            raise ValueError("there are no latents: set `vae`, the folder of a VAE, or `data`, a folder of latents")
        if not (self.text or self.init):
            raise ValueError("there is no text encoder: set `text`, a folder with text_encoder/ and tokenizer/")
        if not _are_stages(self.length_schedule):
            raise ValueError(
                f"length_schedule is {self.length_schedule!r}: it is a list of stages, each a share of the run and the latent "
                "frames of its videos, such as [[0.5, [5, 9]], [1.0, [25]]]"
            )
        if len(self.length_schedule) > 1 and not self.steps:
            raise ValueError(
                "length_schedule has several stages: set `steps` to the steps of the whole run, as in [loop]"
            )
        if not 0 <= self.context_sigma_max < 1:
            raise ValueError(f"context_sigma_max is {self.context_sigma_max}: it is a sigma from 0 to below 1")

    def draw_length(self, step: int, generator: torch.Generator) -> int:
        """Draw the latent frames per video of a step."""
        progress, draw = step / max(self.steps, 1), float(torch.rand((), generator=generator))
        stages = self.length_schedule
        options = next((lengths for until, lengths in stages if progress < until), stages[-1][1])
        return options[int(draw * len(options))]


def _are_stages(schedule: Any) -> bool:
    """Whether a value is a list of stages (share of the run, latent frames per video)."""
    if not isinstance(schedule, list | tuple):
        return False
    for stage in schedule:
        match stage:
            case [int() | float(), [_, *_] as latents] if all(isinstance(n, int) and n > 0 for n in latents):
                continue
        return False
    return bool(schedule)
