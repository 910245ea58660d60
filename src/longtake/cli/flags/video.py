"""The flags of the commands that generate video, and the request that they add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from longtake.cli.flags.command import VideoCommand
from longtake.cli.flags.options import explicit_options, flags_of, parameter, readable
from longtake.cli.flags.output import OutputOptions, ShowOptions, command_words, seeds_of
from longtake.cli.flags.strategy import strategy_flags
from longtake.core.errors import SettingsError
from longtake.core.options import (
    WHAT,
    SamplingOptions,
    declared,
    split,
)
from longtake.core.units import argument
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.settings.loras import strength_of
from longtake.pipelines.settings.request import Inputs, Length, Request, size_options
from longtake.planning.strategies.registry import check_options

Prompt = Annotated[str | None, parameter("Text prompt of what the video shows.", WHAT)]


@dataclass(frozen=True)
class VideoOrder:
    """The videos that a command line asks for.

    words: of the command, without those about its output. requests: one for each variation.
    """

    words: tuple[str, ...]
    requests: Sequence[Request]
    command: VideoCommand
    output: OutputOptions
    show: ShowOptions
    load: LoadOptions


def video_flags(*without: str) -> Any:
    """Return the flags of a command that generates video, but for these inputs."""
    classes = (VideoCommand, OutputOptions, ShowOptions, Inputs, Length, SamplingOptions, LoadOptions)
    return flags_of(*classes, without=("anchor_image", "video", *without), hidden=strategy_flags())


def video_order(name: str, prompt: str | None, flags: Any, **inputs: Path) -> VideoOrder:
    """Return the videos that a command line asks for. InputErrors say what cannot be asked for.

    name: of the command. inputs: those that are arguments of the command rather than flags.
    """
    prompt, given = readable(prompt), explicit_options(flags)
    (command, output, show, load), options = split(given, VideoCommand, OutputOptions, ShowOptions, LoadOptions)
    options |= {name: readable(value) for name, value in options.items() if isinstance(value, str)}
    if prompt is not None and command.script is not None:
        raise SettingsError("give either a prompt in quotes or --script FILE")
    if command.size is not None:
        options |= size_options(command.size, options)
    if command.like is not None:
        from longtake.cli.flags.like import settings_like

        command, output, load, asked = settings_like(command, output, given, prompt, {**options, **inputs})
    elif prompt is None and command.script is None:
        raise SettingsError("give either a prompt in quotes, --script FILE or --like VIDEO")
    else:
        loras = tuple(map(strength_of, command.lora))
        asked = dict(script=command.script or prompt, strategy=command.strategy, loras=loras, **options, **inputs)
    requests = [Request.of(load=load, seed=seed, **asked) for seed in seeds_of(command.seed, output.count)]
    if command.strategy is not None:
        check_options(command.strategy, requests[0].strategy_options)
    arguments = [*map(argument, inputs.values()), *([] if prompt is None else [prompt])]
    words = command_words(name, arguments, _of_video(given, output))
    return VideoOrder(tuple(words), requests, command, output, show, load)


def _of_video(given: Mapping[str, Any], output: OutputOptions) -> dict[str, Any]:
    """Return the options that decide the video, but for the seed; of H.264 its quality too."""
    other = {one.name for one in (*declared(OutputOptions), *declared(ShowOptions))} | {"seed"}
    if output.final_codec == "h264":
        other.discard("crf")
    return {name: value for name, value in given.items() if name not in other}
