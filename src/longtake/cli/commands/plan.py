"""plan: draw a strategy, or estimate what it takes with a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from longtake.cli.completers import MODEL, STRATEGY
from longtake.cli.flags.options import explicit_options, flags_of
from longtake.cli.flags.strategy import strategy_flags
from longtake.core.errors import SettingsError
from longtake.core.geometry import frames_of_seconds
from longtake.core.options import SamplingOptions, declared, split
from longtake.core.units import plural
from longtake.pipelines.settings.request import size_options
from longtake.planning.strategies.registry import STRATEGIES, check_options, make_plan

if TYPE_CHECKING:
    from longtake.planning.window import Window


_OWN = {"num_inference_steps", "shift", "sigma_spacing", "sigmas", "height", "width"}
_OTHER = {one.name for one in declared(SamplingOptions)} - _OWN
MOST_FRAMES, MOST_LATENTS = 2_000_000, 10_000
Flags = flags_of(SamplingOptions, without=_OTHER, hidden=strategy_flags())


def plan(
    strategy: Annotated[str | None, STRATEGY] = None,
    *,
    model: Annotated[str | None, MODEL] = None,
    size: str | None = None,
    frames: Annotated[int | None, Parameter(name=["--num-frames", "--frames"])] = None,
    seconds: float | None = None,
    temporal_compression: int = 4,
    max_latent_frames: int = 25,
    windows: int | None = None,
    png: Path | None = None,
    options: Flags = None,  # type: ignore[valid-type]
) -> int:
    """Draw the windows of a strategy: the noise level (sigma) of every latent frame at every model call.

    With --model, print its tokens, work, memory and disk instead. Neither needs weights.

    Args:
        strategy: The strategy (default: list all; with --model, the model's own).
        model: A released checkpoint by name, or the folder of one.
        size: WIDTHxHEIGHT in pixels, such as 832x480 (default: the model's).
        frames: Output frames of the video (default: --seconds at 24 fps, or at the model's rate).
        seconds: Length of the video (default: 12; with --model 10).
        temporal_compression: Output frames per latent frame.
        max_latent_frames: Latent frames that the model sees at once.
        windows: Number of windows to draw (default: as many as fill a screen).
        png: Draw into this PNG file instead.
    """
    (sampling,), strategy_options = split(explicit_options(options), SamplingOptions)
    if size is not None:
        sampling = replace(sampling, **size_options(size, vars(sampling)))
    given = {**strategy_options, **sampling.schedule()}
    if strategy is not None:
        check_options(strategy, given)
    if model is not None:
        from longtake.cli.estimate import show

        return show(model, strategy, given, sampling, frames, seconds)
    if sampling.sized:
        raise SettingsError("--size, --height and --width need a model: add --model NAME, or leave them out")
    if strategy is None:
        return _list()
    count = frames_of_seconds(12.0 if seconds is None else seconds, 24) if frames is None else frames
    return _show(strategy, given, count, temporal_compression, max_latent_frames, windows, png)


def _list() -> int:
    """List the strategies."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, named in STRATEGIES.items():
        table.add_row(f"[bold]{name}[/]", named.about)
    console = Console(highlight=False)
    console.print(table)
    console.print("\n[dim]longtake plan NAME draws one; longtake generate --strategy NAME --help lists its options[/]")
    return 0


def _show(
    name: str, options: dict[str, Any], frames: int, temporal_compression: int, max_latent_frames: int,
    count: int | None, png: Path | None,
) -> int:  # fmt: skip
    """Draw a strategy in the terminal or into a file."""
    from longtake.cli.plan_drawing.diagram import panels
    from longtake.planning.cost import cost
    from longtake.planning.limits import Limits

    if frames > MOST_FRAMES or max_latent_frames > MOST_LATENTS:
        raise SettingsError(
            f"a plan is drawn of at most {MOST_FRAMES:,} frames, and of at most {MOST_LATENTS:,} latent frames at once: "
            "lower --num-frames, --seconds or --max-latent-frames"
        )
    if min(frames, temporal_compression, max_latent_frames - 1, count or 1) < 1:
        raise SettingsError(
            "--num-frames, --temporal-compression and --windows must be at least 1, and --max-latent-frames at least 2"
        )
    plan, limits = make_plan(name, **options), Limits(max_latent_frames, conditioning=STRATEGIES[name].conditioning)
    if plan.traits.single_window:
        frames = min(frames, 1 + temporal_compression * (max_latent_frames - 1))
    windows = partial(plan.windows, frames, temporal_compression, limits)
    found = list(panels(windows(), temporal_compression, count or _screenful(windows())))
    if png:
        from longtake.cli.plan_drawing.png import draw as draw_png

        draw_png(found, temporal_compression, f"longtake plan {name}").save(png)
        print(png)
        return 0
    from longtake.cli.plan_drawing.terminal import draw

    total, console = cost(windows()), Console(highlight=False)
    counts = ", ".join(
        [plural(total.windows, "window"), plural(total.clips, "clip"), plural(total.steps, "model call")]
    )
    console.print(f"[bold]{name}[/]: {STRATEGIES[name].about}")
    console.print(f"[dim]{frames} frames: {counts}[/]\n")
    for line in draw(found, temporal_compression, console):
        console.print(line, no_wrap=True, overflow="crop")
    return 0


def _screenful(windows: Iterable[Window]) -> int:
    """Return the number of windows that make about 40 rows, three at least."""
    rows = 0
    for count, window in enumerate(windows, 1):
        rows += window.steps
        if rows >= 40 and count >= 3:
            return count
    return max(1, count)
