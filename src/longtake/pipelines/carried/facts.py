"""The settings that a video file carries in its comment: one JSON object without paths, made of the settings of its run.

Files that a run needs (images, LoRAs, a checkpoint) appear by their name and SHA-256. `video_settings` reads the object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import torch

from longtake.core.options import SamplingOptions, changed
from longtake.models.model import Model
from longtake.models.registry import presets
from longtake.pipelines.settings.machine import machine_facts, software_versions
from longtake.pipelines.settings.request import Inputs
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import network_of

SCHEMA = 1  # of the object, which is the value of the key "longtake"
KEYS: Mapping[str, str] = {
    "longtake": "schema number of this object",
    "version": "version of longtake",
    "model": "name and sha256 of the weights; preset and revision if it is a released checkpoint",
    "script": "scenes as they took effect, with their first frames, edits while it was generated included",
    "strategy": "name of the strategy",
    "strategy_options": "the strategy's own options, all of them",
    "sampling": "size, frame rate, seed, steps, guidance, solver and schedule",
    "inputs": "name and sha256 of every input file, and the SHA-256 of the frames that they became",
    "loras": "name and SHA-256 of every LoRA file",
    "load": "precision, kernels and step caching, where they are not the plain ones",
    "video": "frames in the file, frame rate, size, and how it was encoded",
    "machine": "versions, instruction set, device and threads, on which the last bits depend",
    "left_out": "keys that were too long for the file",
}  # the keys of the object, in their order
_HUB_FOLDER = re.compile(r"models--([^/\\]+)--([^/\\]+)[/\\]snapshots[/\\]([0-9a-f]{7,64})")


def carried_settings(
    settings: Mapping[str, Any], weights: str, video: Mapping[str, Any], machine: Mapping[str, Any],
    in_memory: Iterable[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return the object for settings as `RunSettings.facts` gives them.

    weights: SHA-256 of the model. video: its frames, fps, width, height, and encoding. machine: versions, machine facts
    and threads. in_memory: names of inputs that were no files.
    """
    names = _names(settings.get("loras", {}))
    facts = {
        "longtake": SCHEMA, "version": machine.get("longtake", ""), "model": _model(settings["model"], weights),
        "script": _script(settings["script"], names), "strategy": settings["strategy"],
        "strategy_options": settings.get("strategy_options", {}),
        "sampling": {"seed": SamplingOptions().seed} | settings.get("sampling", {}),
        "inputs": {kind: {} for kind in in_memory} | _inputs(settings.get("inputs", {})),
        "loras": {names[path]: sha256 for path, sha256 in settings.get("loras", {}).items()},
        "load": settings.get("load", {}), "video": dict(video),
        "machine": {name: value for name, value in machine.items() if name != "longtake"},
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value != {}}


def carried_by_call(settings: RunSettings, model: Model, inputs: Inputs | None, frames: int) -> dict[str, Any]:
    """Return the object for the video of a pipeline call. frames: that the call returns."""
    height, width = model.size
    video = {
        "fps": str(Fraction(settings.fps).limit_denominator(1001)),
        "width": width,
        "height": height,
        "frames": frames,
    }
    machine = {**software_versions(), **machine_facts(model.device), "threads": torch.get_num_threads()}
    given = {} if inputs is None else changed(inputs)
    in_memory = [kind for kind in given if kind != "anchor_image" and kind not in settings.inputs]
    return carried_settings(settings.facts(), model.info.digest, video, machine, in_memory)


def file_name(path: str) -> str:
    """Return the last part of a path of any system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _model(name: str, weights: str) -> dict[str, str]:
    """Return the facts of a model: a name alone is kept, of a path its last part, of the hub's cache the repository."""
    before, equals, after = name.partition("=")
    preset = {"preset": before} if equals and before in presets() else {}
    path = after if preset else name
    if cached := _HUB_FOLDER.search(path):
        facts = {"name": f"{cached[1]}/{cached[2]}", "revision": cached[3]}
    else:
        facts = {"name": file_name(path)}
    return {**facts, **preset, "sha256": weights}


def _names(loras: Mapping[str, str]) -> dict[str, str]:
    """Return {path: name} of LoRA files, where every name stands for one of them."""
    found: dict[str, str] = {}
    for path in loras:
        name, number = file_name(path), 2
        while name in found.values():
            name, number = f"{file_name(path)} ({number})", number + 1
        found[path] = name
    return found


def _script(script: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    def scene(facts: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in facts.items() if name == "prompt" or value not in (None, False, ())}
        if "lora" in kept:
            kept["lora"] = [[_named(lora, names), strength] for lora, strength in facts["lora"]]
        return kept

    return {**script, "scenes": [scene(one) for one in script["scenes"]]}


def _named(lora: str, names: Mapping[str, str]) -> str:
    network, path = network_of(lora)
    name = names.get(path, file_name(path))
    return f"{network}:{name}" if network else name


def _inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the input files, each under the name that the user's file had."""
    found = {}
    for kind, facts in inputs.items():
        if isinstance(facts, Mapping):
            own = {
                "name": facts.get("file", facts.get("name")),
                "sha256": facts.get("sha256"),
                "frames": facts.get("frames"),
            }
            found[kind] = {name: value for name, value in own.items() if value is not None}
        else:
            found[kind] = facts
    return found
