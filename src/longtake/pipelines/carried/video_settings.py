"""Reading the settings that a video file carries: untrusted text, parsed through the same classes as any other setting.

Nothing that the text names is opened: files appear in it by name and SHA-256, and only a user gives paths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

from longtake.core.errors import InputError, SettingsError
from longtake.core.files import path_of
from longtake.core.guidance_settings import Guidance
from longtake.core.options import SamplingOptions
from longtake.media.metadata import COMMENT, read_tags
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.carried.facts import KEYS, SCHEMA
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Scene, Script, network_of
from longtake.planning.strategies.registry import STRATEGIES

MARK = "longtake"  # the key by which an object is one of ours
INPUTS = ("image", "last_image", "video", "input_video", "control")  # the kinds of input files
TABLES: Mapping[str, set[str]] = {
    "model": {"name", "sha256", "preset", "revision"},
    "script": {"scenes", "starts", "frames", "abrupt"},
    "sampling": {one.name for one in fields(SamplingOptions)},
    "load": {one.name for one in fields(LoadOptions)},
    "inputs": {*INPUTS, "pixels"},
}  # the keys of the object's tables that this version reads
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class NeededFile:
    """A file that a video was made with. kind: the keyword that gives it. name: of the file ("" for an input in memory)."""

    kind: str
    name: str
    sha256: str

    @property
    def flag(self) -> str:
        """The flag that supplies it, with the name and the start of its SHA-256."""
        flag = f"--{self.kind.replace('_', '-')}"
        return f"{flag} {self.name} (SHA-256 {self.sha256[:12]}…)" if self.name else f"{flag} (it was given in memory)"


@dataclass(frozen=True)
class VideoSettings:
    """The settings that a video file carries, as `longtake.read_settings` returns them.

    path: the file. facts: the JSON object as it stands there, unknown keys included. settings: what this version reads of
    it; its model and its LoRAs are names, not paths. unknown: keys that this version does not know, such as
    "sampling.colour".
    """

    path: Path
    facts: Mapping[str, Any]
    settings: RunSettings
    unknown: tuple[str, ...] = ()

    @property
    def schema(self) -> int:
        """The schema number of the object."""
        return int(self.facts[MARK])

    @property
    def newer(self) -> bool:
        """Whether a newer version of longtake wrote the object."""
        return self.schema > SCHEMA

    @property
    def model(self) -> str:
        """The name of the model, without the folder that it was in."""
        return self.settings.model

    @property
    def model_sha256(self) -> str:
        """The SHA-256 that identifies the weights."""
        return str(self.facts["model"].get("sha256", ""))

    @property
    def script(self) -> Script | None:
        """The scenes as they took effect; None if they were too long for the file."""
        return Script.from_facts(self.settings.script) if "script" in self.facts else None

    @property
    def frames(self) -> int | None:
        """Output frames in the file when it was written; None if it does not say."""
        found = self.facts.get("video", {}).get("frames")
        return found if _is_count(found) else None

    @property
    def machine(self) -> Mapping[str, Any]:
        """Versions and machine facts on which the last bits depend."""
        found = self.facts.get("machine", {})
        return found if isinstance(found, dict) else {}

    @property
    def threads(self) -> int | None:
        """CPU threads of torch; None if the file does not say."""
        found = self.machine.get("threads")
        return found if _is_count(found) else None

    @property
    def needed(self) -> tuple[NeededFile, ...]:
        """The input files and LoRAs that the video was made with, but for its model."""
        inputs = self.settings.inputs
        found = [
            NeededFile(kind, inputs[kind].get("name", ""), inputs[kind].get("sha256", ""))
            for kind in INPUTS
            if kind in inputs
        ]
        return (*found, *(NeededFile("lora", name, sha256) for name, sha256 in self.settings.loras.items()))


def read_settings(path: Path | str) -> VideoSettings:
    """Read the settings that a video or image file carries. SettingsError if it carries none that can be used.

    MediaError if it is no such file. Nothing that the settings name is opened.
    """
    path = path_of("the video", path)
    text = read_tags(path).get(COMMENT, "")
    facts = parsed(text)
    if facts is None or MARK not in facts:
        raise SettingsError(f"{path} carries no settings of longtake: `longtake inspect {path}` says what it carries")
    return settings_of(path, facts)


def parsed(text: str) -> dict[str, Any] | None:
    """Return the JSON object of a text; None if it is none. NaN, endless numbers and deep nesting are no JSON."""
    try:
        found = json.loads(text, parse_constant=_refuse, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def settings_of(path: Path, facts: Mapping[str, Any]) -> VideoSettings:
    """Return the settings of an object of longtake. SettingsError if they are damaged, or cannot be used here."""
    known, unknown = _known(facts)
    try:
        if not _is_count(facts[MARK]) or not facts[MARK]:
            raise SettingsError(f"schema {facts[MARK]!r}")
        _check(known)
        settings = RunSettings.from_facts(
            {name: known[name] for name in ("strategy", "strategy_options", "sampling", "inputs", "loras", "load")}
            | {"model": known["model"]["name"], "script": known["script"]}
        )
    except (InputError, KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        newer = " (a newer version of longtake wrote them: use that)" if _newer(facts) else ""
        cause = error.__cause__ or error
        raise SettingsError(f"{path}: its settings cannot be used{newer}: {cause}") from error
    return VideoSettings(path, facts, settings, tuple(unknown))


def _known(facts: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the part of an object that this version knows, and the names of the other keys."""
    unknown = [name for name in facts if name not in KEYS]
    known = {name: value for name, value in facts.items() if name in KEYS}
    for name in ("strategy_options", "inputs", "loras", "load", "sampling", "video", "machine"):
        known.setdefault(name, {})
    strategy = known.get("strategy")
    options: dict[str, set[str]] = {}
    if isinstance(strategy, str) and strategy in STRATEGIES:
        options["strategy_options"] = set(STRATEGIES[strategy].options())
    for table, keys in {**TABLES, **options}.items():
        if isinstance(known.get(table), dict):
            unknown += [f"{table}.{name}" for name in known[table] if name not in keys]
            known[table] = {name: value for name, value in known[table].items() if name in keys}
    script = known.get("script")
    if script is None and "script" in facts.get("left_out", ()):
        known["script"] = {"scenes": [{"prompt": ""}], "starts": [0], "frames": None}
    elif isinstance(script, dict) and isinstance(script.get("scenes"), list):
        names = {one.name for one in fields(Scene)}
        scenes = [one for one in script["scenes"] if isinstance(one, dict)]
        unknown += dict.fromkeys(f"script.scenes.{name}" for one in scenes for name in one if name not in names)
        script = {name: value for name, value in script.items() if name in TABLES["script"]}
        known["script"] = {**script, "scenes": [{k: v for k, v in one.items() if k in names} for one in scenes]}
    return known, unknown


def _check(known: dict[str, Any]) -> None:
    """Check what the classes of the settings take as it is, and convert guidance to its own class."""
    if not isinstance(known["model"]["name"], str) or not isinstance(known["model"].get("sha256", ""), str):
        raise SettingsError("its model has no name")
    if not all(isinstance(known[name], dict) for name in ("video", "machine", "load", "inputs", "loras", "sampling")):
        raise SettingsError("one of its tables is none")
    calibration = known["load"].get("step_cache_calibration")
    if not isinstance(calibration, dict | None):  # a text would be the path of a file to read
        raise SettingsError("its step_cache_calibration is no table")
    for kind, facts in known["inputs"].items():
        if kind != "pixels":
            _check_file(kind, facts)
    for name, sha256 in known["loras"].items():
        _check_file(f"the LoRA {name}", {"sha256": sha256})
    for scene in known["script"]["scenes"]:
        for lora, _ in scene.get("lora", ()):
            if network_of(lora)[1] not in known["loras"]:
                raise SettingsError(f"a scene has the LoRA {lora}, which is not listed")
    if isinstance(guidance := known["sampling"].get("guidance_scale"), dict):
        rows = {name: _tuples(value) for name, value in guidance.items()}
        known["sampling"] = {**known["sampling"], "guidance_scale": Guidance(**rows)}


def _check_file(name: str, facts: Any) -> None:
    sound = isinstance(facts, dict) and isinstance(facts.get("name", ""), str) and _is_count(facts.get("frames", 0))
    if not sound or ("sha256" in facts and not HASH.fullmatch(str(facts["sha256"]))):
        raise SettingsError(f"{name} has no SHA-256, or one that cannot be")


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _newer(facts: Mapping[str, Any]) -> bool:
    return _is_count(facts.get(MARK)) and facts[MARK] > SCHEMA


def _whole(digits: str) -> int:
    """Return a whole number. ValueError for one that does not fit into 64 bits, which no setting needs."""
    number = int(digits)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"{digits[:24]}... is too large")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def with_names(settings: RunSettings, found: VideoSettings) -> RunSettings:
    """Return settings in which an input file that the video was made with too has the name that it had then."""
    inputs = dict(settings.inputs)
    for kind, facts in found.settings.inputs.items():
        mine = inputs.get(kind)
        if isinstance(facts, dict) and isinstance(mine, dict) and facts.get("sha256") == mine.get("sha256"):
            inputs[kind] = {**mine, "file": facts["name"]} if "name" in facts and "sha256" in facts else mine
    return replace(settings, inputs=inputs)
