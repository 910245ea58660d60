"""The arguments of a pipeline call as the arguments of each of its videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from longtake.core.errors import SettingsError
from longtake.core.options import plain
from longtake.pipelines.call.given_embeddings import NEGATIVE, PROMPT, rows_of
from longtake.pipelines.call.prompts import scripts_of, seeds_of

PER_PROMPT = ("negative_prompt", "image", "last_image", "anchor_image")  # a list of them has one for every prompt

MOST_VIDEOS = 100_000  # of a prompt in one call


@dataclass(frozen=True)
class VideoArguments:
    """The arguments of one video. prompt_embeds, negative_prompt_embeds: (1, L, D), or None for the text's own."""

    script: Any
    seed: int
    prompt_embeds: Tensor | None
    negative_prompt_embeds: Tensor | None
    options: Mapping[str, Any]


def videos_of(
    prompt: Any, scenes: Any, per_prompt: Any, generator: Any, *, prompt_embeds: Any = None,
    negative_prompt_embeds: Any = None, seed: Any = None, **options: Any,
) -> list[VideoArguments]:  # fmt: skip
    """Return the arguments of every video: `per_prompt` of each prompt, one after another.

    SettingsError and ScriptError say which arguments contradict each other, or have another number than the prompts.
    """
    if prompt_embeds is not None:
        if prompt is not None or scenes is not None:
            raise SettingsError("prompt_embeds stands for a prompt: give one of them, not both")
        given = rows_of("prompt_embeds", prompt_embeds)
        prompt = [PROMPT] * len(given)
    scripts = scripts_of(prompt, scenes)
    positive: list[Any] = given if prompt_embeds is not None else [None] * len(scripts)
    negative: list[Any] = [None] * len(scripts)
    if negative_prompt_embeds is not None:
        if options.get("negative_prompt") is not None:
            raise SettingsError("negative_prompt_embeds stands for a negative_prompt: give one of them")
        rows = rows_of("negative_prompt_embeds", negative_prompt_embeds)
        negative = rows * len(scripts) if len(rows) == 1 else _as_many("negative_prompt_embeds", rows, len(scripts))
        options["negative_prompt"] = NEGATIVE
    times = _count(per_prompt)
    seeds = iter(seeds_of(seed, generator, len(scripts) * times))
    shared = [_of_prompt(options, i, len(scripts)) for i in range(len(scripts))]
    return [
        VideoArguments(scripts[i], next(seeds), positive[i], negative[i], shared[i])
        for i in range(len(scripts))
        for _ in range(times)
    ]


def _of_prompt(options: Mapping[str, Any], i: int, prompts: int) -> dict[str, Any]:
    """Return the options of prompt i: the one of each list that has one for every prompt, and all else."""
    own = {name: plain(value) for name, value in options.items()}
    for name in PER_PROMPT:
        if isinstance(value := own.get(name), list | tuple) and (prompts > 1 or name == "negative_prompt"):
            own[name] = _as_many(name, value, prompts)[i]
    return own


def _as_many(name: str, values: Any, prompts: int) -> Any:
    if len(values) != prompts:
        raise SettingsError(
            f"{name} has {len(values)} for a number of prompts of {prompts}: give one, or one per prompt"
        )
    return values


def _count(per_prompt: Any) -> int:
    count = plain(per_prompt)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_VIDEOS:
        raise SettingsError(f"num_videos_per_prompt must be a whole number from 1 to {MOST_VIDEOS}, not {per_prompt!r}")
    return count
