"""The commands and their flags. What each does is in a file of its own, imported when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

import longtake
from longtake.cli import flags
from longtake.cli.common import Common
from longtake.cli.flags import PlanOptions
from longtake.geometry import frames_of_seconds

app = App(
    name="longtake",
    help="Endless video from open diffusion models: start it, watch it, kill it, resume it to the same bytes.",
    help_epilogue="--debug with any command shows where in the program an error came from.",
    version=longtake.__version__,
)
Format = Literal["text", "json"]
Options = Annotated[PlanOptions, Parameter(name="*")]  # type: ignore[valid-type]
Shared = Annotated[Common, Parameter(name="*")]


@app.command
def generate(
    prompt: str | None = None,
    /,
    *,
    script: Path | None = None,
    seconds: float | None = None,
    endless: bool = False,
    image: Path | None = None,
    end_image: Path | None = None,
    track: Path | None = None,
    track_scale: float = 1.0,
    common: Shared = Common(),  # noqa: B008
    options: Options = PlanOptions(),  # noqa: B008
) -> int:
    """Make a video from a prompt or a script.

    Args:
        prompt: What should be seen.
        script: A .txt file (a prompt per line) or a .toml file (scenes with their seconds) instead of a prompt.
        seconds: Length of the video (default: 10 for a prompt; that of the script).
        endless: Go on until Ctrl-C; everything made so far stays watchable.
        image: A picture that the video begins with, scaled to cover the size and cut to its middle.
        end_image: A picture that the video comes to; it is not shown itself.
        track: What drives the new frames, for a model that takes it: a .csv (a row per frame), or a sound.
        track_scale: How much the track counts (1: as the model sees fit).
    """
    told = dict(image=image, end_image=end_image, track=track, track_scale=track_scale)
    return _make(common, options, prompt, script, seconds, endless, **told)


@app.command
def extend(
    video: Path,
    prompt: str | None = None,
    /,
    *,
    script: Path | None = None,
    seconds: float | None = None,
    endless: bool = False,
    end_image: Path | None = None,
    track: Path | None = None,
    track_scale: float = 1.0,
    common: Shared = Common(),  # noqa: B008
    options: Options = PlanOptions(),  # noqa: B008
) -> int:
    """Go on from a video: its frames, in the size and rate of the model, and then new ones.

    Args:
        video: Any video file. Its pictures are scaled to cover the size and cut to their middle; frame n is the one
            nearest to n / fps seconds.
        prompt: What should be seen next.
        script: A .txt file (a prompt per line) or a .toml file (scenes with their seconds) instead of a prompt.
        seconds: Length of what is added (default: 10 for a prompt; that of the script).
        endless: Go on until Ctrl-C; everything made so far stays watchable.
        end_image: A picture that the video comes to; it is not shown itself.
        track: What drives the new frames, for a model that takes it: a .csv (a row per frame), or a sound.
        track_scale: How much the track counts (1: as the model sees fit).
    """
    told = dict(video=video, end_image=end_image, track=track, track_scale=track_scale)
    return _make(common, options, prompt, script, seconds, endless, **told)


def _make(
    common: Common, options: Any, prompt: str | None, script: Path | None, seconds: float | None, endless: bool,
    **given: Any,
) -> int:  # fmt: skip
    """Check what can be checked in an instant, then make the video."""
    chosen = flags.given(options)
    if common.plan is not None:
        flags.known(common.plan, chosen)
    from longtake.cli.make import Request, generate, size_of

    request = Request(
        prompt, script, seconds, endless, common.model, common.plan, chosen, common.seed, common.fps, common.guidance,
        common.negative, common.solver, size=size_of(common.size), loras=common.lora,
        place=common.place(), **given,
    )  # fmt: skip
    return generate(
        request,
        common.output,
        threads=common.threads,
        dry_run=common.dry_run,
        offline=common.offline,
        json=common.format == "json",
    )


@app.command
def resume(
    folder: Path,
    /,
    *,
    allow: list[str] | None = None,
    repair: bool = False,
    device: str | None = None,
    offload: Literal["none", "model", "blocks"] | None = None,
    format: Format = "text",
) -> int:
    """Go on with a video that was stopped, crashed or killed; the result is the same as if it never had been.

    Args:
        folder: What `longtake generate` made.
        allow: Names of settings that may differ from what the video was begun with (all: any).
        repair: First make segments again that were deleted or altered.
        device: Where to go on, if not on the same device: cpu, cuda or cuda:N.
        offload: What waits in host memory, if not the same as before. It changes no frame.
        format: json prints one event per line.
    """
    from longtake.cli.make import resume

    return resume(
        folder, allow=tuple(allow or ()), repair=repair, json=format == "json", device=device, offload=offload
    )


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
def prompts(
    folder: Path,
    action: Literal["list", "add", "insert", "replace"] = "list",
    prompt: str | None = None,
    /,
    *,
    at: float | None = None,
    seconds: float | None = None,
    cut: Literal["no", "yes", "anchor", "resample"] | None = None,
    wait: float = 2.0,
    format: Format = "text",
) -> int:
    """See the prompts of a video, or change them while it is made; what has begun is never changed.

    Args:
        folder: What `longtake generate` made or is making.
        action: list; add a scene at the end; insert one, which moves the rest; replace the prompt until its scene ends.
        prompt: What should be seen.
        at: Second of the video (default: as early as can be).
        seconds: Length of what is added or inserted (default: 5).
        cut: Begin a new shot: knowing nothing, with the first picture of this one, or with that picture re-sampled.
        wait: Seconds to wait for an answer from the process that makes the video.
        format: json prints one object.
    """
    from longtake.cli.prompts import prompts

    kind = {None: None, "no": False, "yes": True}.get(cut, cut)
    return prompts(folder, action, prompt, at, seconds, kind, wait, format == "json")


@app.command
def plan(
    name: str | None = None,
    /,
    *,
    model: str | None = None,
    size: str | None = None,
    frames: Annotated[int | None, Parameter(name=["--frames", "--num-frames"])] = None,
    seconds: float | None = None,
    stride: int = 4,
    view: int = 25,
    windows: int | None = None,
    png: Path | None = None,
    options: Options = PlanOptions(),  # noqa: B008
) -> int:
    """Draw a strategy: which latent frame is how noisy at which model call. Or say what it takes with a model.

    Neither needs weights.

    Args:
        name: The strategy (default: list them all; with a model, what suits it).
        model: A released checkpoint by name, or the folder of one: print tokens, work, memory and disk.
        size: HEIGHTxWIDTH in pixels (default: the model's).
        frames: Output frames of the video (default: seconds at 24 fps, or the model's).
        seconds: Length of the video (default: 12; with a model 10).
        stride: Output frames per latent frame.
        view: Latent frames that the model sees at once.
        windows: How many windows to draw (default: as many as fill a screen).
        png: Draw into a PNG file instead.
    """
    given = flags.given(options)
    if name is not None:
        flags.known(name, given)
    if model is not None:
        from longtake.cli.estimate import show
        from longtake.cli.make import size_of

        return show(model, name, given, size_of(size), frames, seconds)
    from longtake.cli.look import plans, show_plan

    if name is None:
        return plans()
    count = frames_of_seconds(12.0 if seconds is None else seconds, 24) if frames is None else frames
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
    recipe: str,
    config: Path | None = None,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    dry_run: bool = False,
) -> int:
    """Train a model, or go on with a training that was stopped.

    Args:
        recipe: codec, text, flow, forcing, causal, i2v, distil, mixed, lora or recycle; see docs/training.md.
        config: A .toml file with a table [loop] and one named after the recipe.
        output: Folder for checkpoints and logs.
        dry_run: Only say what memory it takes, without weights or data (mixed).
    """
    from longtake.cli.look import train

    return train(recipe, config, output, dry_run)


data = App(name="data", help="Make training data of your own videos.")
app.command(data)


@data.command
def prepare(
    folder: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    shots: Literal["adaptive", "transnet", "none"] = "adaptive",
    captions: Path | None = None,
    encoding: str = "utf-8",
    captioner: str = "none",
    seconds: float = 1.0,
    longest: float = 60.0,
    side: int = 240,
    sharpness: float = 12.0,
    motion: float = 0.4,
    dark: float = 16.0,
    bright: float = 239.0,
    duplicates: bool = False,
    text: str | None = None,
    text_share: float | None = None,
    jobs: int | None = None,
    sheet: bool = True,
) -> int:
    """Find the shots in a folder of videos, keep those worth learning from, and say why the rest was not kept.

    It may be stopped at any time; the same command goes on. Changing a limit or a caption costs seconds: videos that were
    read are not read again.

    Args:
        folder: Videos, also in folders below; captions in a .txt beside each, or in one .csv or .jsonl table.
        output: Folder for the list of shots (shots.jsonl), the report and what is needed to go on.
        shots: How cuts are found: adaptive (PySceneDetect), transnet (TransNetV2, sees dissolves) or none.
        captions: The table of captions, if it is not the only one in the folder.
        encoding: Of captions that are not UTF-8.
        captioner: Says what shots without a caption show: none, filename, a plug-in's name, or module:function.
        seconds: A shot must last at least this long.
        longest: A longer shot is divided.
        side: Pixels that the shorter side must have.
        sharpness: Least variance of the Laplacian (0: any).
        motion: Least change of grey values in an eighth of a second (0: any).
        dark: Least mean brightness, 0 to 255.
        bright: Greatest mean brightness.
        duplicates: Drop shots that look like one that is kept.
        text: What measures text in a picture, as module:function (nothing for it is built in).
        text_share: The greatest share of a picture that may be text.
        jobs: Videos read at the same time (default: one per processor).
        sheet: Draw a contact sheet.
    """
    from longtake.cli.data import prepare_folder, processes
    from longtake.data.filters import Rules
    from longtake.data.prepare import Request

    rules = Rules(seconds, side, sharpness, motion, dark, bright, text_share, duplicates)
    return prepare_folder(
        folder,
        output,
        Request(rules, shots, longest, captions, encoding, captioner, text, processes(jobs)),
        sheet,
    )
