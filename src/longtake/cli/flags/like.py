"""--like VIDEO: the settings that a video file carries, with the flags that replace some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from longtake.cli.flags.command import VideoCommand
from longtake.cli.flags.output import OutputOptions
from longtake.core.errors import SettingsError
from longtake.core.options import split
from longtake.core.process.notices import notice
from longtake.models.locate import builtin
from longtake.models.registry import presets, toy_families
from longtake.models.runtime.load_options import LoadOptions, resolve_device
from longtake.pipelines.carried.again import keywords_again
from longtake.pipelines.carried.video_settings import VideoSettings, read_settings
from longtake.pipelines.settings.loras import strength_of
from longtake.pipelines.settings.threads import MOST_THREADS

LOAD = set(LoadOptions.__dataclass_fields__)


def settings_like(
    command: VideoCommand, output: OutputOptions, explicit: Mapping[str, Any], prompt: str | None,
    options: Mapping[str, Any],
) -> tuple[VideoCommand, OutputOptions, LoadOptions, dict[str, Any]]:  # fmt: skip
    """Return the flags as the file and the user fill them in together, and the keywords of `Request.of`, but for the seed.

    explicit: all flags that the user set. options: those of the request. InputErrors name what is missing or wrong.
    """
    assert command.like is not None
    found = read_settings(command.like)
    needed = {one.kind: one for one in found.needed}
    if "video" in needed and options.get("video") is None:
        name = needed["video"].name or "VIDEO"
        raise SettingsError(f"{command.like} continues {name}: run `longtake extend {name} --like {command.like}`")
    given = {**options, "prompt": prompt if command.script is None else command.script, "strategy": command.strategy}
    given["loras"] = [_lora(text) for text in command.lora] or None
    asked = keywords_again(found, given)
    asked["script"] = asked.pop("prompt")
    seed = asked.pop("seed", 0)
    threads = found.threads if found.threads and found.threads <= MOST_THREADS else None
    command = replace(
        command, model=_model(found, explicit), threads=command.threads or threads,
        seed=command.seed if "seed" in explicit else seed,
    )  # fmt: skip
    if output.crf is None and output.final_codec == "h264":
        output = replace(output, crf=_crf(found))
    return command, output, _load_options(found, explicit), asked


def _model(found: VideoSettings, explicit: Mapping[str, Any]) -> str:
    """Return the model that the user names, else that of the file if it is one of the names that `longtake models` lists."""
    if "model" in explicit:
        return str(explicit["model"])
    facts = found.facts["model"]
    released = facts["preset"] if "revision" in facts and facts.get("preset") in presets() else None
    if released is not None or found.model in builtin() or found.model in [one.name for one in toy_families()]:
        return str(released or found.model)
    raise SettingsError(
        f"{found.path} was made with the model {found.model} (SHA-256 {found.model_sha256[:12]}…), which is not one of "
        "`longtake models`: give it with --model"
    )


def _load_options(found: VideoSettings, explicit: Mapping[str, Any]) -> LoadOptions:
    """Return how the model was loaded, with the flags of the user; on the CPU if this machine lacks the GPU."""
    recorded = {"device": "cpu", **found.settings.load}
    if "device" not in explicit and recorded["device"] != "cpu" and resolve_device("auto") == "cpu":
        notice(f"{found.path} was made on {recorded['device']}, which is not here: the CPU gives slightly other frames")
        recorded["device"] = "cpu"
    own = {name: value for name, value in explicit.items() if name in LOAD}
    (load,), _ = split({**recorded, **own}, LoadOptions)
    return load  # type: ignore[no-any-return]


def _crf(found: VideoSettings) -> int | None:
    """Return the quality of the segments, if the file names one that can be."""
    crf = found.facts.get("video", {}).get("crf")
    return crf if isinstance(crf, int) and not isinstance(crf, bool) and 0 <= crf <= 51 else None


def _lora(text: str) -> Any:
    """Return FILE, or FILE and STRENGTH where it is given: a strength replaces the recorded one."""
    path, strength = strength_of(text)
    return path if path == text else (path, strength)
