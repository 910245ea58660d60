"""The commands and their flags. What each does is in a file of its own, imported when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

import longtake
from longtake.cli import flags
from longtake.cli.flags import PlanOptions
from longtake.geometry import frames_of_seconds

app = App(
    name="longtake",
    help="Endless video from open diffusion models: start it, watch it, kill it, resume it to the same bytes.",
    version=longtake.__version__,
)
Format = Literal["text", "json"]
Options = Annotated[PlanOptions, Parameter(name="*")]  # type: ignore[valid-type]
Output = Annotated[Path | None, Parameter(name=["--output", "-o"])]


@app.command
def generate(
    prompt: str | None = None,
    /,
    *,
    script: Path | None = None,
    seconds: float | None = None,
    endless: bool = False,
    output: Output = None,
    model: str = "pocket",
    offline: bool = False,
    plan: str | None = None,
    seed: int = 0,
    fps: float | None = None,
    guidance: float | None = None,
    negative: str | None = None,
    solver: Literal["euler", "unipc"] | None = None,
    threads: int | None = None,
    dry_run: bool = False,
    format: Format = "text",
    options: Options = PlanOptions(),  # noqa: B008
) -> int:
    """Make a video from a prompt or a script.

    Args:
        prompt: What should be seen.
        script: A .txt file (a prompt per line) or a .toml file (scenes with their seconds) instead of a prompt.
        seconds: Length of the video (default: 10 for a prompt; that of the script).
        endless: Go on until Ctrl-C; everything made so far stays watchable.
        output: Folder for video.mp4, its segments and all that is needed to resume (default: out/ and the prompt).
        model: A built-in model, a world, the folder of a checkpoint (or PRESET=FOLDER), a released checkpoint by name, or
            an id of the hub. `longtake models` lists them.
        offline: Download nothing.
        plan: The strategy for long video (default: what suits the model). `longtake plan` lists them.
        seed: Equal seeds make equal videos.
        fps: Frames per second, if the model can make others than its own.
        guidance: How much the prompt counts (1: as the model sees fit, and twice as fast).
        negative: What should not be seen.
        solver: How the steps are taken.
        threads: Of the processor (default: all, at most 4). Part of what decides the last bit, so resume keeps it.
        dry_run: Show the plan and its cost, make nothing.
        format: json prints one event per line.
    """
    chosen = flags.given(options)
    if plan is not None:
        flags.known(plan, chosen)
    from longtake.cli.make import Request, generate

    return generate(
        Request(prompt, script, seconds, endless, model, plan, chosen, seed, fps, guidance, negative, solver),
        output,
        threads=threads,
        dry_run=dry_run,
        offline=offline,
        json=format == "json",
    )


@app.command
def resume(folder: Path, /, *, allow: list[str] | None = None, repair: bool = False, format: Format = "text") -> int:
    """Go on with a video that was stopped, crashed or killed; the result is the same as if it never had been.

    Args:
        folder: What `longtake generate` made.
        allow: Names of settings that may differ from what the video was begun with (all: any).
        repair: First make segments again that were deleted or altered.
        format: json prints one event per line.
    """
    from longtake.cli.make import resume

    return resume(folder, allow=tuple(allow or ()), repair=repair, json=format == "json")


@app.command
def verify(folder: Path, /, *, segment: int | None = None, remake: bool = True) -> int:
    """Check every hash of a video, make one of its segments again, and compare.

    Args:
        folder: What `longtake generate` made.
        segment: The one to make again (default: one at random).
        remake: Make a segment again (needs the model).
    """
    from longtake.cli.make import verify

    return verify(folder, segment, remake)


@app.command
def plan(
    name: str | None = None,
    /,
    *,
    frames: int | None = None,
    seconds: float = 12.0,
    stride: int = 4,
    view: int = 25,
    windows: int | None = None,
    png: Path | None = None,
    options: Options = PlanOptions(),  # noqa: B008
) -> int:
    """Draw a strategy: which latent frame is how noisy at which model call. Needs no model.

    Args:
        name: The strategy (default: list them all).
        frames: Output frames of the video (default: seconds at 24 fps).
        seconds: Length of the video.
        stride: Output frames per latent frame.
        view: Latent frames that the model sees at once.
        windows: How many windows to draw (default: as many as fill a screen).
        png: Draw into a PNG file instead.
    """
    from longtake.cli.look import plans, show_plan

    if name is None:
        return plans()
    given = flags.given(options)
    flags.known(name, given)
    count = frames_of_seconds(seconds, 24) if frames is None else frames
    return show_plan(name, given, count, stride, view, windows, png)


@app.command
def models() -> int:
    """List the models that are here."""
    from longtake.cli.look import models

    return models()


@app.command
def inspect(path: Path, /, *, preset: str | None = None, format: Format = "text") -> int:
    """Say what a checkpoint is, from the headers of its files: kind, sizes, what is missing, what does not fit.

    Args:
        path: A folder (diffusers, SkyReels-V2 or Wan), a safetensors file, or a .toml list of files.
        preset: Which released checkpoint it is, where the files do not say.
        format: json prints the report as one object.
    """
    from longtake.cli.weights import inspect

    return inspect(path, preset, format == "json")


@app.command
def convert(path: Path, out: Path | None = None, /) -> int:
    """Turn the .pth files of a published checkpoint into safetensors, and print their SHA-256. Nothing in them is run.

    Args:
        path: A .pth file, or a folder with some.
        out: The file to make, or the folder for it (default: beside the original).
    """
    from longtake.cli.weights import convert

    return convert(path, out)


@app.command
def doctor() -> int:
    """Say what works on this machine, what is missing, and how to get it."""
    from longtake.cli.look import doctor

    return doctor()


@app.command
def train(
    recipe: str, config: Path | None = None, /, *, output: Annotated[Path, Parameter(name=["--output", "-o"])]
) -> int:
    """Train a model, or go on with a training that was stopped.

    Args:
        recipe: codec, text or forcing.
        config: A .toml file with a table [loop] and one named after the recipe.
        output: Folder for checkpoints and logs.
    """
    from longtake.cli.look import train

    return train(recipe, config, output)
