"""Recipe `flow_matching`: full-sequence flow matching, one sigma for all frames of a video.

Wan was trained so, and SkyReels-V2 before its diffusion forcing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from longtake.train.objectives.velocity import Sample
from longtake.train.toml_config import read_table
from longtake.train.video.full_sequence import FullSequenceConfig, clip_beginnings
from longtake.train.video.recipe import VideoRecipe
from longtake.train.video.training import VideoTraining
from longtake.train.weights.model_card import ModelCard, model_card

CONFIG = FullSequenceConfig
CARD = ModelCard(strategy="clip", kind="t2v", strategy_options={})


def make(config: Mapping[str, Any], out: Path) -> VideoRecipe:
    """Make the recipe from its table and the run's folder."""
    settings = read_table(CONFIG, config, "flow_matching")
    video = VideoTraining.open(settings, out, model_card(CARD, settings.card, "flow_matching.card"))

    def draw(step: int, generator: torch.Generator) -> Sample:
        return clip_beginnings(settings, video, video.batch_spec(step, generator), generator)[0]

    return VideoRecipe(video, draw, uniform=True)


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    return {**parts.video, "network": parts.network}
