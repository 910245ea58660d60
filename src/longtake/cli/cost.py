"""What a plan costs a released LTX-Video checkpoint: tokens and operations, counted from its shape, without weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from longtake.cli import flags
from longtake.geometry import frames_of_seconds
from longtake.guidance import Guidance
from longtake.models.ltx import SECONDS
from longtake.models.ltx_presets import LTXPreset, Second
from longtake.plan import Limits, PlanError, Window, cost
from longtake.plans import PLANS, chosen
from longtake.plans import plan as plan_named
from longtake.refine import second
from longtake.settings import SettingsError

WORDS, SCALE, STRIDE = 256, 32, 8  # text tokens; pixels and frames per latent


@dataclass(frozen=True)
class Work:
    """tokens: of the largest call. operations: floating-point, of all calls. step: of one call of every window.

    seconds: that the longest window spans.
    """

    tokens: int
    operations: float
    step: float
    seconds: float


def show(
    preset: LTXPreset, name: str | None, given: dict[str, Any], size: tuple[int, int] | None, frames: int | None,
    seconds: float | None,
) -> int:  # fmt: skip
    """Print what a plan takes at a size (height, width). PlanError or SettingsError say what cannot be."""
    preset = replace(preset, size=_whole(size or preset.size))
    name = name or preset.plan
    flags.known(name, given)
    own = preset.options if name == preset.plan else preset.sampling
    known = flags.options(PLANS[name].planner.__name__)
    options = {key: value for key, value in chosen(own, given).items() if key in known}
    count = frames if frames is not None else frames_of_seconds(seconds or 10.0, preset.fps)
    most = preset.config().view(preset.fps)
    strategy = plan_named(name, **options)
    window = options.get("window")
    limits = Limits(max(most, 0 if window is None else 1 + (window - 1) // STRIDE))
    windows = list(strategy.windows(count, STRIDE, limits))
    console = Console(highlight=False)
    told = lines(work(windows, preset), windows, preset, name, count)
    if preset.second is not None:
        first = chosen({**options, "levels": ",".join(map(str, preset.second.first))}, given)
        told.append(both(list(plan_named(name, **first).windows(count, STRIDE, limits)), preset, preset.second))
    for line in told:
        console.print(line, style="yellow" if line.startswith("warning") else "", soft_wrap=True)
    return 0


def work(windows: Iterable[Window], preset: LTXPreset) -> Work:
    """Count a finite plan for a checkpoint at its size and with its guidance."""
    most, total, step, span = 0, 0.0, 0.0, 0.0
    for window in windows:
        tokens = len(window.frames) * preset.tokens
        one = operations(preset, tokens)
        most, step, span = max(most, tokens), step + one, max(span, STRIDE * max(window.positions) / preset.fps)
        for level in window.levels[:-1].max(1).values.tolist():
            total += one * streams(preset.guide, level, preset.config().num_layers)
    return Work(most, total, step, span)


def operations(preset: LTXPreset, tokens: int) -> float:
    """Floating-point operations of one video through the network once; the text's keys and values are kept."""
    config = preset.config()
    linear = 2 * tokens * 14 * config.dim**2  # q k v and out, q and out of the text, the feed-forward
    attention = 4 * tokens * config.dim * (tokens + WORDS)
    return config.num_layers * float(linear + attention)


def streams(guide: Guidance, level: float, layers: int) -> float:
    """Branches of guidance at a noise level; a perturbed one costs only from its first block on."""
    scale, stg, _, blocks = guide.at(guide.interval(level))
    return 1 + (scale > 1) + ((layers - min(blocks)) / layers if stg > 0 else 0)


def lines(found: Work, windows: list[Window], preset: LTXPreset, name: str, frames: int) -> list[str]:
    """The work in words, with a warning where positions leave what the network was trained for."""
    (height, width), total = preset.size, cost(windows)
    told = [
        f"{preset.name} · {width} x {height} · {preset.fps:g} fps · {frames} frames = {frames / preset.fps:.1f} s · plan {name}",
        f"windows   {total.windows}, in {total.takes} takes; {total.calls} calls",
        f"tokens    {preset.tokens} per latent frame, up to {found.tokens:,} in a call",
        f"work      {said(found.step)} for one step of all windows, {said(found.operations)} with all steps and guidance",
    ]
    if found.seconds > SECONDS:
        told.append(
            f"warning: a window spans {found.seconds:.0f} s, but the positions of LTX-Video end at {SECONDS:g} s, and it is "
            "refused when it runs: use a shorter --window, or --plan relay or looping"
        )
    return told


def said(count: float) -> str:
    """Operations in words."""
    return f"{count / 1e15:,.1f} PFLOP" if count >= 1e15 else f"{count / 1e12:,.0f} TFLOP"


def both(windows: list[Window], preset: LTXPreset, then: Second) -> str:
    """The work in two passes, which the checkpoint takes where its upsampler is beside it, in words."""
    try:
        after = [second(window, then.second) for window in windows]
    except PlanError as error:
        return f"two passes  {error}"
    height, width = preset.size
    small = work(windows, replace(preset, size=(height // 2, width // 2))).operations
    large = work(after, replace(preset, guide=then.guidance)).operations
    return (
        f"two passes, with the upsampler beside the weights: {cost(windows).calls} + {cost(after).calls} calls, "
        f"{said(small + large)} with all steps and guidance"
    )


def _whole(size: tuple[int, int]) -> tuple[int, int]:
    if any(side < 1 or side % SCALE for side in size):
        near = "x".join(str(max(SCALE, round(side / SCALE) * SCALE)) for side in size)
        raise SettingsError(f"--size {size[0]}x{size[1]} is not whole tokens of {SCALE} x {SCALE}: use {near}")
    return size
