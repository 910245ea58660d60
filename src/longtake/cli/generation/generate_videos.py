"""Generates the videos of a command line, one after the other with the model loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from longtake.cli.downloads import announce as announce_download
from longtake.cli.dry_run import calibrate, preview
from longtake.cli.flags.video import VideoOrder
from longtake.cli.generation.variations import Variations
from longtake.cli.next_steps import print_next_steps
from longtake.cli.run_video import record_run, show_finished
from longtake.core.process.notices import notice
from longtake.engine.rollout import Rollout
from longtake.media.finished.sound_encoder import sound_seconds
from longtake.models import load
from longtake.models.checkpoints.hub import DownloadInfo
from longtake.models.model import Model
from longtake.pipelines.carried.again import differences_here
from longtake.pipelines.carried.video_settings import VideoSettings, read_settings, with_names
from longtake.pipelines.settings.request import Request
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.pipelines.settings.threads import SLOWER, check_threads, default_threads, slowdown
from longtake.planning.script_files import first_image
from longtake.planning.strategies.registry import check_options
from longtake.runs import check_output_folder, discard
from longtake.runs.claim import Claim, State
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import manifest_of
from longtake.runs.target import Target
from longtake.runs.video_run import VideoRun


def generate_videos(order: VideoOrder, claims: Sequence[Claim], console: Console) -> int:
    """Generate and record the videos that are not there yet, and draw the sheet of several; return the exit code."""
    model = None if all(one.state is State.FINISHED for one in claims) else _model(order, console)
    variations = Variations(claims, console)
    for one in claims:
        variations.begin(one)
        if one.state is State.FINISHED:
            code = _show_finished(order, one, console)
        else:
            assert model is not None
            code = _generate(order, one, model, console, first=one is claims[0])
        if code:
            variations.stopped(one)
            return code
        variations.done(one)
        if len(claims) == 1 and not order.show.json:
            print_next_steps(console, one.target.folder, model)
        discard(one.target.folder)
    variations.finish()
    return 0


def show_plan(order: VideoOrder, target: Target, console: Console) -> int:
    """Show the plan of a command's first video and its cost; return the exit code."""
    model, request = _model(order, console), order.requests[0]
    settings = _settings(order, model, request, console)
    _preview(order, settings, model, request, target.folder.parent, console)
    return 0


def _generate(order: VideoOrder, one: Claim, model: Model, console: Console, first: bool) -> int:
    request = order.requests[0]
    request = replace(request, sampling=replace(request.sampling, seed=one.record.seed))
    settings = _settings(order, model, request, console)
    folder = one.target.folder
    check_output_folder(folder)
    if first:
        _preview(order, settings, model, request, folder, console)
    found, stop = None if order.command.like is None else read_settings(order.command.like), None
    if found is not None:
        settings = with_names(settings, found)
        if settings.frames is None and not request.length.endless:
            stop = found.frames  # where the user stopped the endless video
        if first:
            _name_differences(found, settings, model)
    metadata = not order.command.no_metadata
    run = VideoRun(settings, model, request.inputs, folder, order.output.encoding, metadata)
    return record_run(run, console, json=order.show.json, on_open=one.begin, stop=stop, preview=order.show.preview)


def _name_differences(found: VideoSettings, settings: RunSettings, model: Model) -> None:
    """Give notice of what differs from the machine and the weights of the video that this one is like."""
    if lines := differences_here(found, settings, model.info.digest, model.device):
        notice(f"the frames may differ from those of {found.path}: {'; '.join(lines)}")


def _show_finished(order: VideoOrder, one: Claim, console: Console) -> int:
    one.begin()
    if Layout(one.target.folder).manifest.exists():
        manifest = manifest_of(one.target.folder)
        if manifest.frames is not None and not one.record.written:
            _compare_sound(order, float(manifest.frames / manifest.fps), console)
        return show_finished(one.target.folder, console, json=order.show.json)
    if not order.show.json:
        console.print(f"done before: [bold]{one.target.video}[/]", soft_wrap=True)
    return 0


def _model(order: VideoOrder, console: Console) -> Model:
    """Load the model; a terminal shows that meanwhile, until a download has lines of its own."""
    _set_threads(order.command.threads, order.load.device, console)
    with console.status("loading the model") as status:

        def on_download(offer: DownloadInfo) -> None:
            status.stop()
            announce_download(offer)

        return load(order.command.model, offline=order.show.offline, on_download=on_download, load_options=order.load)


def _settings(order: VideoOrder, model: Model, request: Request, console: Console) -> RunSettings:
    check_options(request.strategy or model.defaults.strategy, request.strategy_options)
    settings = RunSettings.resolve(model, request)
    if request.inputs.video is not None and first_image(request.script):
        console.print("the image of the script is not used: this run continues a video")
    return settings


def _preview(
    order: VideoOrder, settings: RunSettings, model: Model, request: Request, folder: Path, console: Console
) -> None:
    """Print the plan with its time and memory, and what of the sound does not fit."""
    rollout: Rollout = settings.new_rollout(model, request.inputs)
    drawn = order.show.verbose or order.show.dry_run
    with console.status("measuring a step"):
        speed = calibrate(rollout)
    preview(settings, model, rollout.timeline.planner, speed, console, folder, drawn=drawn)
    if settings.frames is not None:
        _compare_sound(order, settings.frames / settings.fps, console)


def _compare_sound(order: VideoOrder, video: float, console: Console) -> None:
    """Print what of the sound, or of a video of so many seconds, has no counterpart in the other."""
    sound = None if order.output.audio is None else sound_seconds(order.output.audio)
    if sound is not None and sound > video + 0.1:
        console.print(f"the sound has {sound:.4g} s, the video {video:.4g} s: the rest of the sound is cut off")
    elif sound is not None and sound < video - 0.1:
        console.print(f"the sound has {sound:.4g} s, the video {video:.4g} s: the end of the video is silent")


def _set_threads(asked: int | None, device: str, console: Console) -> None:
    """Set the CPU threads: those asked for, else the faster of all that this process may use and one."""
    if asked is not None:
        check_threads(asked)
    threads = asked or default_threads()
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if asked is None and threads > 1 and on_cpu and (slower := slowdown(threads)) > SLOWER:
        console.print(
            f"1 CPU thread, because {threads} are {slower:.1f} times slower on this busy machine: --threads {threads} "
            "uses them all the same"
        )
        threads = 1
    torch.set_num_threads(threads)
