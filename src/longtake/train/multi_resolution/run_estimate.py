"""Memory and cost of a multi-resolution run, estimated from its config before any weight is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from longtake.pocket import FPS
from longtake.train.datasets.buckets import group_buckets, least_tokens, make_buckets
from longtake.train.loop_config import LoopConfig
from longtake.train.multi_resolution.config import MultiResolutionConfig
from longtake.train.multi_resolution.memory_estimate import (
    MemoryEstimate,
    describe,
    estimate_step,
    shapes_without_weights,
)
from longtake.train.toml_config import read_table


def estimate_run(config: Mapping[str, Any]) -> tuple[MemoryEstimate, list[str]]:
    """Estimate memory and cost of a run from its config. ConfigError or WeightsError says what is wrong with it.

    `init` may be the name of a released preset here; no weights are read.
    """
    settings = read_table(MultiResolutionConfig, config.get("multi_resolution", {}), "multi_resolution")
    loop = read_table(LoopConfig, config.get("loop", {}), "loop")
    shapes = shapes_without_weights(
        settings.init, settings.vae, settings.text, settings.network, "multi_resolution.network"
    )
    vae = shapes.vae
    buckets = make_buckets(
        settings.seconds, settings.pixel_sizes, vae.temporal_compression, vae.spatial_compression, FPS
    )
    dropout = settings.batch.max_token_dropout
    groups = [[bucket.tokens for bucket in group] for group in group_buckets(buckets, dropout)]
    kept = [[least_tokens(max(group), dropout), min(group)] for group in groups]
    batches = [(max(1, settings.batch.tokens // count), count) for counts in kept for count in counts]
    clips, tokens = max(batches, key=lambda batch: batch[0] * batch[1])
    found = estimate_step(shapes.network, loop, clips, tokens, shapes.frozen_bytes)
    name = settings.init or "a new network"
    return found, [
        f"network   {name}, {found.parameters:,} weights; {len(buckets)} buckets in {len(groups)} groups",
        *(f"tokens    {_span(all_)} per clip, {_span(some)} of them kept" for all_, some in zip(groups, kept)),
        *describe(found, loop),
    ]


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
