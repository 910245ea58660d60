"""The keyword arguments that generate a video again, from the settings that its file carries and what a user changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from longtake.core.errors import SettingsError
from longtake.core.options import SamplingOptions, changed, check_value, declared
from longtake.core.process.notices import notice
from longtake.pipelines.carried.video_settings import NeededFile, VideoSettings
from longtake.pipelines.settings import loras as lora_files
from longtake.pipelines.settings.machine import machine_facts, software_versions
from longtake.pipelines.settings.resolve import fps_of
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Scene, Script, network_of
from longtake.planning.script_files import read_script_file

LENGTHS = ("seconds", "num_frames", "endless")
SCHEDULE = ("num_inference_steps", "shift", "sigma_spacing")  # each of them replaces a list of sigmas
LoraFiles = Mapping[str, tuple[str, float | None]]  # {name in the file: (path, strength, or None for the recorded one)}


def keywords_again(found: VideoSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a call: those of `Request.of`, with the script as `prompt`.

    given: such arguments, which take precedence. A prompt or scenes replace the whole script, and other frame rates or
    lengths stretch nothing: its scenes keep their seconds. SettingsError names files that are missing.
    """
    given = {_long_name(name): value for name, value in given.items() if value is not None and value is not False}
    if found.newer:
        notice(f"{found.path} was made by a newer longtake (schema {found.schema}): what this version knows is used")
    if found.unknown:
        notice(
            f"{found.path} has settings that this version does not know, which are not used: {', '.join(found.unknown)}"
        )
    inputs, missing = _inputs(found, given)
    files, everywhere, lost = _loras(found, given.get("loras"))
    if missing or lost:
        needs = ", ".join(one.flag for one in (*missing, *lost))
        raise SettingsError(f"{found.path} was made with files that it does not hold: give {needs}")
    script = {"prompt": given.get("prompt"), "scenes": given.get("scenes")}
    if all(value is None for value in script.values()):
        script = {"prompt": _script(found, given, files)}
    else:
        everywhere = [*_of_all_scenes(found, files), *everywhere]
        given = _with_length(found, given)
    strategy = given.get("strategy", found.settings.strategy)
    options = found.settings.strategy_options if strategy == found.settings.strategy else {}
    rest = {n: v for n, v in given.items() if n not in ("prompt", "scenes", "strategy", "loras", *inputs)}
    if isinstance(script["prompt"], Script):
        rest = {name: value for name, value in rest.items() if name not in LENGTHS}
    known = {name: value for name, value in script.items() if value is not None}
    return {**known, "strategy": strategy, "loras": everywhere, **options, **_sampling(found, given), **inputs, **rest}


def differences_here(found: VideoSettings, settings: RunSettings, weights: str, device: str) -> list[str]:
    """Return in phrases what differs from the machine, weights and input frames of the video, and is no choice of a user.

    weights: SHA-256 of the model that is loaded. device: that it is on.
    """
    machine = {**software_versions(), **machine_facts(device), "threads": torch.get_num_threads()}
    there = {**found.machine, "longtake": found.facts.get("version")}
    lines = [
        f"{name} was {there[name]}, is {now}"
        for name, now in machine.items()
        if there.get(name) is not None and there[name] != now
    ]
    if found.model_sha256 and weights != found.model_sha256:
        lines.append(f"the weights are not those of {found.model} (SHA-256 {found.model_sha256[:12]}…)")
    old, new = found.settings.inputs, settings.inputs
    same = all(old.get(kind) == new.get(kind) for kind in old if kind != "pixels")
    if old and same and old.get("pixels", new.get("pixels")) != new.get("pixels"):
        lines.append("the input files decode to other frames")
    return lines


def _long_name(name: str) -> str:
    """Return the name of an option of which `name` may be the short form."""
    return next((one.name for one in declared(SamplingOptions) if one.metadata["short"] == name), name)


def _sampling(found: VideoSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded sampling options that nothing given replaces."""
    kept = {name: value for name, value in changed(found.settings.sampling).items() if value != ""}
    if any(name in given for name in SCHEDULE):
        kept.pop("sigmas", None)
    if "num_inference_steps" in given or "sigmas" in given:
        kept.pop("skip_initial_inference_steps", None)
    return {name: value for name, value in kept.items() if name not in given}


# ------------------------------------------------------------ files
def _inputs(found: VideoSettings, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[NeededFile]]:
    """Return the inputs by keyword, and those that the video was made with and that are not given."""
    needed = {one.kind: one for one in found.needed if one.kind != "lora"}
    if "image" in needed and "video" in given:
        notice(f"the first image of {found.path} is not used: this video continues another one")
        del needed["image"]
    for kind, one in needed.items():
        if kind in given:
            _compare(found, one, given[kind])
    kinds = {*needed, "image", "last_image", "video", "input_video", "control", "anchor_image"}
    own = {kind: given[kind] for kind in kinds if kind in given}
    return own, [one for kind, one in needed.items() if kind not in given]


def _compare(found: VideoSettings, needed: NeededFile, given: Any) -> None:
    """Give notice of a file that is not the one that the video was made with."""
    if not needed.sha256 or not isinstance(given, str | Path) or not Path(given).is_file():
        return
    with open(given, "rb") as file:
        same = hashlib.file_digest(file, "sha256").hexdigest() == needed.sha256
    if not same:
        notice(f"{given} is not {needed.flag} of {found.path}, so the frames will differ")


def _loras(found: VideoSettings, given: Any) -> tuple[LoraFiles, list[tuple[str, float]], list[NeededFile]]:
    """Return the LoRA files that stand for the recorded ones, those for every scene, and the recorded ones that are missing.

    A given file is the recorded one of the same SHA-256; its strength, where one is given, replaces the recorded one.
    """
    needed = [one for one in found.needed if one.kind == "lora"]
    files: dict[str, tuple[str, float | None]] = {}
    others: list[tuple[str, float]] = []
    for path, strength in _pairs(given):
        file = network_of(path)[1]
        digest = lora_files.sha256(Path(file)) if needed else ""
        same = {one.name: (file, strength) for one in needed if one.sha256 == digest}
        files |= same
        if not same:
            others.append((path, 1.0 if strength is None else strength))
    missing = [one for one in needed if one.name not in files]
    for path, _ in others:
        if near := next((one for one in missing if one.name == Path(path).name), None):
            notice(f"{path} is not {near.flag} of {found.path}: it has another SHA-256")
    return files, others, missing


def _pairs(given: Any) -> list[tuple[str, float | None]]:
    """Return files and strengths; the strength is None where only a file is given."""
    if given is None:
        return []
    rows = given.items() if isinstance(given, Mapping) else [given] if isinstance(given, str | Path) else given
    return [(str(one), None) if isinstance(one, str | Path) else (str(one[0]), one[1]) for one in rows]


def _supplied(scene: Scene, files: LoraFiles) -> Scene:
    """Return a scene with the paths of its LoRA files."""
    found = []
    for lora, recorded in scene.lora:
        network, name = network_of(lora)
        path, strength = files[name]
        found.append((f"{network}:{path}" if network else path, recorded if strength is None else strength))
    return replace(scene, lora=tuple(found))


def _of_all_scenes(found: VideoSettings, files: LoraFiles) -> list[tuple[str, float]]:
    """Return the LoRAs that every recorded scene has, for a script that replaces it."""
    scenes = [] if found.script is None else [_supplied(scene, files).lora for scene in found.script.scenes]
    return [one for one in scenes[0] if all(one in others for others in scenes)] if scenes else []


# ------------------------------------------------------------ the script
def _script(found: VideoSettings, given: Mapping[str, Any], files: LoraFiles) -> Script | list[Scene]:
    """Return the recorded script, placed anew if a length or a frame rate is given."""
    script = found.script
    if script is None:
        raise SettingsError(f"the script of {found.path} was too long for its file: give it with --script FILE")
    script = replace(script, scenes=tuple(_supplied(one, files) for one in script.scenes))
    old = fps_of(found.settings.sampling)
    for name, kind in (("fps", "float"), ("num_frames", "int"), ("seconds", "float")):
        if name in given:
            check_value(name, given[name], kind)
    new = float(given.get("fps", old))
    if new == old and not any(name in given for name in LENGTHS):
        return script
    ends = [*script.starts[1:], script.frames]
    lasting = [
        replace(scene, seconds=scene.seconds if end is None else (end - start) / old)
        for scene, start, end in zip(script.scenes, script.starts, ends)
    ]
    seconds = None if script.frames is None else script.frames / old
    seconds = given["num_frames"] / new if "num_frames" in given else given.get("seconds", seconds)
    endless = "endless" in given or seconds is None
    return replace(Script.of(lasting, new, None if endless else seconds, endless), abrupt=script.abrupt)


def _with_length(found: VideoSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Add the recorded length, for prompts that replace the script without a length of their own."""
    if any(name in given for name in LENGTHS) or _has_length(given.get("prompt"), given.get("scenes")):
        return dict(given)
    frames = found.settings.script["frames"]
    if frames is None and found.frames is not None:  # an endless video that was stopped
        frames = max(1, found.frames - found.settings.before)
    if frames is None:
        return {**given, "endless": True}
    return {**given, "seconds": frames / fps_of(found.settings.sampling)}


def _has_length(prompt: Any, scenes: Any) -> bool:
    """Whether a script says itself how long it is."""
    if isinstance(prompt, Path):
        return any(scene.seconds is not None for scene in read_script_file(prompt).scenes)
    rows: Sequence[Any] = scenes if scenes is not None else prompt if isinstance(prompt, list) else ()
    timed = [one for one in rows if isinstance(one, tuple) or getattr(one, "seconds", None) is not None]
    return isinstance(prompt, Script) or bool(timed)
