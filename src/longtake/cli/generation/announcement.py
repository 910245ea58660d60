"""The first lines of a command: what is made, with which model, and where it goes. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from longtake.cli.flags.video import VideoOrder
from longtake.core.units import plural
from longtake.media.finished.file_kinds import ANIMATIONS, DEFAULT_CRF, codec_of
from longtake.pipelines.settings.request import DEFAULT_SECONDS
from longtake.planning.script import Script
from longtake.planning.script_files import read_script_file
from longtake.runs.claim import Claim, State
from longtake.runs.files.layout import Layout
from longtake.runs.files.output_record import OutputRecord
from longtake.runs.target import Target, is_other_folder

LONGEST_PROMPT, MOST_SEEDS = 160, 8  # characters and drawn seeds that are shown


def announce(order: VideoOrder, first: Target, claims: Sequence[Claim], console: Console) -> None:
    """Print what is made and where it goes, what of it is there already, and what is assumed.

    first: the target that --output names, or the first of the counted names. claims: the names that were taken; none for
    a dry run.
    """
    targets, records = [one.target for one in claims] or [first], [one.record for one in claims]
    count = f"{len(order.requests)} videos, each " if len(order.requests) > 1 else ""
    what = f"{count}{_length(order)} of {_shown(order)} with [bold]{escape(_model(order.command.model))}[/]"
    console.print(f"{what}, {_seeds(records) if records else _seeds_of_requests(order)}", soft_wrap=True)
    several = len(targets) > 1
    names = [str(one.video if not several or one.file else one.folder) for one in (targets[0], targets[-1])]
    last = f" to {escape(Path(names[1]).name)}" if several else ""
    console.print(f"  {'into' if claims else 'would go into'} [bold]{escape(names[0])}[/]{last}", soft_wrap=True)
    for line in (*_as_file(order, first), *_encoded_again(order, first), *_there_already(order, first, claims)):
        console.print(f"  {escape(line)}", soft_wrap=True)


def _length(order: VideoOrder) -> str:
    length, request = order.requests[0].length, order.requests[0]
    if length.endless:
        return "a video without end"
    if length.num_frames is not None:
        return plural(length.num_frames, "frame")
    if length.seconds is not None:
        return f"{length.seconds:g} s"
    if isinstance(request.script, Script):
        return "a video without end" if request.script.frames is None else plural(request.script.frames, "frame")
    if isinstance(request.script, Path) or request.inputs.input_video is not None:
        return "a video"
    return f"{DEFAULT_SECONDS:g} s"


def _shown(order: VideoOrder) -> str:
    request = order.requests[0]
    if isinstance(request.script, Path):
        scenes = read_script_file(request.script).scenes
        text = f"{escape(str(request.script))} ({plural(len(scenes), 'scene')})"
    else:
        words = " ".join(request.heading.split())
        text = f'"{escape(words if len(words) <= LONGEST_PROMPT else words[: LONGEST_PROMPT - 1] + "…")}"'
    video = request.inputs.files.get("video")
    return text if video is None else f"{text} behind {escape(str(video))}"


def _model(name: str) -> str:
    return Path(name).name if Path(name).is_dir() else name


def _seeds(records: Sequence[OutputRecord]) -> str:
    seeds = [record.seed for record in records]
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if records[0].draws_seed:
        more = ", ..." if len(seeds) > MOST_SEEDS else ""
        return f"seeds {', '.join(map(str, seeds[:MOST_SEEDS]))}{more}"
    return f"seeds {seeds[0]} to {seeds[-1]}"


def _seeds_of_requests(order: VideoOrder) -> str:
    return f"seed {order.requests[0].sampling.seed}"


def _as_file(order: VideoOrder, first: Target) -> list[str]:
    """Say why a name without an ending became that of a file."""
    output = order.output.output
    if first.file is None or (output is not None and output.suffix.lower() == first.file.suffix.lower()):
        return []
    return ["a file, since --no-keep, --audio and --codec are about a finished file"]


def _encoded_again(order: VideoOrder, first: Target) -> list[str]:
    file = first.file
    codec = order.output.codec if file is None else codec_of(file, order.output.codec)
    if file is None or (codec == "h264" and file.suffix.lower() not in ANIMATIONS):
        return []
    if file.suffix.lower() in ANIMATIONS:
        return [f"encoded once more, as {file.suffix[1:].upper()}: the run itself is H.264"]
    crf = DEFAULT_CRF[codec] if order.output.crf is None else order.output.crf
    return [f"encoded once more, as {codec.upper()} of crf {crf}: the run itself is H.264"]


def _there_already(order: VideoOrder, first: Target, claims: Sequence[Claim]) -> list[str]:
    """Say what the same command made before, and which names other videos have."""
    said = []
    done = [one for one in claims if one.state is State.FINISHED]
    started = [one for one in claims if one.state is State.STARTED and Layout(one.target.folder).manifest.exists()]
    if started:
        where = started[0].target.folder
        said.append(f"the same command began {where} before, and it goes on (--overwrite starts anew)")
    if done and all(one.target.file and not one.record.written for one in done) and len(done) == len(claims):
        said.append("the frames were generated before: only the file is written; --seed random makes another video")
    elif done and len(done) == len(claims):
        said.append("generated before by the same command; --seed random makes another one, --overwrite the same again")
    elif done:
        said.append(
            f"{plural(len(done), 'video')} of the same command {'is' if len(done) == 1 else 'are'} there already"
        )
    output = order.output.output
    if (
        output is not None
        and claims
        and claims[0].number > 1
        and claims[0].same is None
        and not is_other_folder(output)
    ):
        said.append(f"because {first.file or first.folder} is another one, which stays (--overwrite replaces it)")
    if claims and claims[0].same is not None and not claims[0].record.draws_seed:
        said.append(f"the same as {claims[0].same}, which is finished; --seed random makes another one")
    return said
