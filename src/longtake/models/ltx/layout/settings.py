"""The settings of an LTX-Video checkpoint of one's own, from its longtake.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtake.core.guidance_settings import Guidance
from longtake.models.checkpoints.disk import WeightsError
from longtake.models.model import ModelInfo, SamplingDefaults, VideoFormat


def own_settings(about: Mapping[str, Any], path: Path) -> tuple[ModelInfo, VideoFormat, SamplingDefaults]:
    """Return what longtake.json states. Raises WeightsError for a key that is missing."""
    try:
        return (
            ModelInfo(about["name"], "ltx", vocabulary=about.get("vocabulary", "")),
            VideoFormat(about["fps"], (about["size"][0], about["size"][1]), tuple(about.get("rates", ()))),
            SamplingDefaults(
                strategy=about.get("strategy", "sliding"),
                strategy_options=about.get("strategy_options", {}),
                sampling_options=about.get("sampling_options", {}),
                guidance=Guidance((about.get("guidance_scale", 1.0),)),
                negative_prompt=about.get("negative_prompt", ""),
            ),
        )
    except KeyError as error:
        raise WeightsError(f"{path / 'longtake.json'} lacks {error}: copy the model again") from error
