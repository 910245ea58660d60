"""What a plan costs a released LTX-Video checkpoint: tokens and operations, counted from its shape, without weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from longtake.core.errors import SettingsError
from longtake.core.guidance_settings import Guidance
from longtake.core.units import check_pixels
from longtake.models.ltx.config import SECONDS, LTXConfig
from longtake.models.ltx.presets import LTXPreset
from longtake.models.model import SamplingDefaults, VideoFormat
from longtake.models.spec import CheckpointSpec, TwoStageSpec, Work
from longtake.planning.limits import Limits
from longtake.planning.window import Window

BF16, ALIVE = 2, 14  # bytes of a number; rows of the network's width that a token has at once in a block
WORDS, SCALE, STRIDE = 256, 32, 8  # text tokens; output pixels and output frames per latent


def spec(path: Path | None, preset: LTXPreset | None, size: tuple[int, int] | None = None) -> CheckpointSpec:
    """Describe a released checkpoint at (height, width). Raises SettingsError for files without the name of a preset."""
    if preset is None:
        raise SettingsError(f"the cost of {path} is known by the name of its preset: give that, such as ltx-2b-0.9.5")
    config = preset.config()
    multiple = SCALE
    height, width = size or preset.size
    check_pixels((height, width), (multiple, multiple))
    second = preset.second
    return CheckpointSpec(
        preset.name,
        sized(VideoFormat(preset.fps, preset.size, size_multiple=(multiple, multiple)), (height, width)),
        Limits(config.max_latent_frames(preset.fps), end="at", causal_positions=config.causal_temporal_positioning),
        SamplingDefaults(preset.plan, preset.options, preset.sampling, preset.guide, preset.negative, preset.solver),
        STRIDE,
        work=Counter(config),
        two_stages=None if second is None else TwoStageSpec(second.first, second.second, second.guidance),
        longest_seconds=SECONDS,
        weights={part: 1e9 * size for part, size in preset.gigabytes().items()},
    )


def sized(format: VideoFormat, size: tuple[int, int]) -> VideoFormat:
    """Return the format at (height, width), with the tokens of a latent frame."""
    return replace(format, size=size, tokens_per_frame=(size[0] // SCALE) * (size[1] // SCALE))


@dataclass(frozen=True)
class Counter:
    """Counts the work of finite plans on a network of this shape."""

    config: LTXConfig

    def __call__(self, windows: Iterable[Window], format: VideoFormat, guidance: Guidance) -> Work:
        """Count all steps of the windows with all branches of guidance."""
        most, total, step, span = 0, 0.0, 0.0, 0.0
        for window in windows:
            tokens = len(window.frames) * format.tokens_per_frame
            one = flops(self.config, tokens)
            most, step, span = max(most, tokens), step + one, max(span, STRIDE * max(window.positions) / format.fps)
            for sigma in window.sigmas[:-1].max(1).values.tolist():
                total += one * branches(guidance, sigma, self.config.num_layers)
        return Work(most, total, step, span, round(BF16 * ALIVE * most * self.config.dim))


def flops(config: LTXConfig, tokens: int) -> float:
    """Count the operations of one forward pass over `tokens` tokens; keys and values of the text are cached."""
    linear = 2 * tokens * 14 * config.dim**2  # q k v and out, q and out of the text, the feed-forward
    attention = 4 * tokens * config.dim * (tokens + WORDS)
    return config.num_layers * float(linear + attention)


def branches(guidance: Guidance, sigma: float, layers: int) -> float:
    """Count the branches of guidance at a noise level; a perturbed one costs only from its first block on."""
    scale, stg, _, blocks = guidance.at(guidance.interval(sigma))
    return 1 + (scale > 1) + ((layers - min(blocks)) / layers if stg > 0 else 0)
