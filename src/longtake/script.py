"""What happens when: scenes over time, read from a line of text, a .txt file (a prompt per line) or a .toml file.

A .toml file may also name the `image` with which the video begins. Files that a .toml file names are found from the folder that it is in.
"""

from __future__ import annotations

import math
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

from longtake.geometry import frames_of_seconds

MOST_BYTES = 1 << 20  # a script is text; anything larger is a mistake
NETWORKS = ("high", "low")  # of a model of two, for one of which a LoRA is named
CUTS = ("anchor", "resample")  # how a scene may begin, besides going on (false) and knowing nothing (true)


class ScriptError(ValueError):
    """A script that cannot be followed; the message says where and what to do."""


@dataclass(frozen=True)
class Scene:
    """One prompt for a while. seconds None: as long as is left.

    cut: a new shot that knows nothing of the one before (true), that begins with the first picture of the shot before it
    ("anchor"), or with that picture lightly re-sampled under the new prompt ("resample").
    lora: the file and strength of each LoRA; {file: strength}, or a list of files and [file, strength], will do too.
    """

    prompt: str
    seconds: float | None = None
    cut: bool | str = False
    lora: tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise ScriptError("a scene has an empty prompt: say what should be seen")
        if self.seconds is not None and not (
            isinstance(self.seconds, int | float) and math.isfinite(self.seconds) and self.seconds > 0
        ):
            raise ScriptError(f"scene {self.prompt!r}: seconds must be a positive number, not {self.seconds}")
        if not isinstance(self.cut, bool) and self.cut not in CUTS:
            raise ScriptError(f"scene {self.prompt!r}: cut is true, false, {' or '.join(CUTS)}, not {self.cut!r}")
        object.__setattr__(self, "lora", _loras(self.lora, f"scene {self.prompt!r}"))


@dataclass(frozen=True)
class Shot:
    """A run of scenes without a cut. first: its first output frame; frames: how many (None: without end)."""

    first: int
    frames: int | None


@dataclass(frozen=True)
class Script:
    """Scenes on a timeline of output frames. starts: the first frame of each scene; frames: the end (None: endless).

    fps: of the frames that it counts, where known.
    abrupt: prompts whose embeddings are further apart than this begin a shot that is re-sampled from the anchor (None:
    only where a scene says so). The distance is 1 - cosine, from 0 to 2.
    """

    scenes: tuple[Scene, ...]
    starts: tuple[int, ...]
    frames: int | None
    fps: float | None = field(default=None, compare=False)
    abrupt: float | None = None

    @staticmethod
    def of(
        source: str | Path | Script | list[Scene], fps: float, seconds: float | None = None, endless: bool = False
    ) -> Script:
        """A script from a prompt, a list of scenes, or a .txt or .toml file.

        seconds: the length of the whole; scenes without a length share what is left of it. Without `seconds` every
        such scene lasts 5 s. endless: the last scene goes on for ever.
        """
        if isinstance(source, Script):
            if seconds is not None or endless:
                raise ScriptError("a finished Script has its length: give its scenes instead, or no seconds")
            if source.fps not in (None, fps):
                raise ScriptError(
                    f"this Script counts frames at {source.fps:g} per second, the run makes {fps:g}: make it anew with "
                    f"Script.of(..., {fps:g})"
                )
            return source
        scenes, head = (list(source), {}) if isinstance(source, list | tuple) else _read(source)
        if not scenes:
            raise ScriptError("the script has no scenes: write at least one prompt")
        return replace(_timeline(scenes, fps, seconds, endless), **head)

    def at(self, frame: int) -> Scene:
        """The scene of an output frame; the last one goes on."""
        return self.scenes[max(0, bisect_right(self.starts, frame) - 1)]

    def shots(self) -> Iterator[Shot]:
        """The runs of scenes between cuts."""
        firsts = [start for i, (scene, start) in enumerate(zip(self.scenes, self.starts)) if scene.cut or i == 0]
        for first, after in zip(firsts, [*firsts[1:], self.frames]):
            yield Shot(first, None if after is None else after - first)

    def facts(self) -> dict[str, Any]:
        """A json-able record. Scenes without LoRAs do not mention them, as before there were any."""
        scenes = [{k: v for k, v in asdict(s).items() if k != "lora" or v} for s in self.scenes]
        rest = {} if self.abrupt is None else {"abrupt": self.abrupt}
        return {"scenes": scenes, "starts": list(self.starts), "frames": self.frames, **rest}

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> Script:
        """Undo `facts`."""
        scenes = tuple(Scene(**s) for s in facts["scenes"])
        return Script(scenes, tuple(facts["starts"]), facts["frames"], abrupt=facts.get("abrupt"))


def network_of(lora: str) -> tuple[str, str]:
    """The network that a LoRA is named for, and its file: high:FILE, low:FILE, or FILE alone ("")."""
    name, colon, file = lora.partition(":")
    return (name, file) if colon and name in NETWORKS else ("", lora)


def in_folder(lora: str, place: Callable[[str], Path]) -> str:
    """A LoRA with another path, named for the same network."""
    name, file = network_of(lora)
    return f"{name}:{place(file)}" if name else str(place(file))


def _loras(given: Any, where: str) -> tuple[tuple[str, float], ...]:
    """Files and strengths, checked, from any of the ways to write them."""
    if not isinstance(given, dict | list | tuple):
        raise ScriptError(f'{where}: lora is a table such as {{ "style.safetensors" = 0.8 }} or a list, not {given!r}')
    found: dict[str, float] = {}
    for row in given.items() if isinstance(given, dict) else given:
        pair = (row, 1.0) if isinstance(row, str) else row
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and pair[0].strip()):
            raise ScriptError(f"{where}: a LoRA is a file, or a file and a strength, not {row!r}")
        name, strength = pair
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
            raise ScriptError(f"{where}: the strength of {name} must be a number such as 0.8, not {strength!r}")
        if name in found:
            raise ScriptError(f"{where}: {name} is named twice: add up its strengths")
        found[name] = float(strength)
    return tuple(found.items())


def _timeline(scenes: list[Scene], fps: float, seconds: float | None, endless: bool) -> Script:
    if seconds is not None:
        frames_of_seconds(seconds, fps)
    open_ = sum(s.seconds is None for s in scenes)
    given = sum(s.seconds for s in scenes if s.seconds is not None)
    share = 5.0
    if seconds is not None and open_:
        share = (seconds - given) / open_
        if share <= 0:
            raise ScriptError(
                f"the scenes with a length take {given:g} s already, so nothing is left of {seconds:g} s for the other "
                f"{open_}: make the video longer"
            )
    ends = list(accumulate(Fraction(s.seconds if s.seconds is not None else share) for s in scenes))
    total = None if endless else Fraction(seconds) if seconds is not None else ends[-1]
    starts = [round(end * Fraction(fps)) for end in (Fraction(0), *ends[:-1])]
    frames = None if total is None else max(1, round(total * Fraction(fps)))
    if any(b <= a for a, b in zip(starts, [*starts[1:], round(ends[-1] * Fraction(fps))])):
        raise ScriptError(f"a scene is shorter than one frame at {fps:g} fps: give it more seconds")
    kept = [i for i, start in enumerate(starts) if frames is None or start < frames]
    return Script(tuple(scenes[i] for i in kept), tuple(starts[i] for i in kept), frames, fps=fps)


def _read(source: str | Path) -> tuple[list[Scene], dict[str, Any]]:
    """The scenes, and what the script says of the whole."""
    if not isinstance(source, Path):
        return [Scene(source)], {}
    if source.suffix not in (".txt", ".toml"):
        raise ScriptError(f"{source}: a script is a .txt file (a prompt per line) or a .toml file")
    text = _written(source)
    return (_lines(text), {}) if source.suffix == ".txt" else _toml(text, source)


def beginning(source: object) -> Path | None:
    """The picture that a .toml script names as `image`, with which the video begins; None for anything without one."""
    if not isinstance(source, Path) or source.suffix != ".toml":
        return None
    image = _table(_written(source), source).get("image")
    return None if image is None else source.parent / image


def _written(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ScriptError(f"{path}: larger than 1 MiB, which no script is")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScriptError(f"cannot read the script {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ScriptError(f"{path}: not UTF-8 text") from error
    return text


def _lines(text: str) -> list[Scene]:
    lines = (line.strip() for line in text.splitlines())
    return [Scene(line) for line in lines if line and not line.startswith("#")]


def _table(text: str, path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"{path}: {error}") from error
    _only(table, {"scene", "abrupt", "image"}, path, "the script")
    if not isinstance(table.get("image", ""), str):
        raise ScriptError(f"{path}: image is the path of a picture in quotes, not {table['image']!r}")
    return table


def _toml(text: str, path: Path) -> tuple[list[Scene], dict[str, Any]]:
    table = _table(text, path)
    rows = table.get("scene", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ScriptError(f"{path}: scenes are written as [[scene]] tables")
    scenes: list[Scene] = []
    clock = 0.0
    for number, row in enumerate(rows, 1):
        where = f"scene {number}"
        _only(row, {f.name for f in fields(Scene)} | {"at"}, path, where)
        if "prompt" not in row:
            raise ScriptError(f"{path}: {where} has no prompt")
        at = row.pop("at", None)
        if at is not None:
            scenes, clock = _begins(scenes, clock, at, path, where)
        try:
            scene = Scene(**row)
            scenes.append(
                replace(scene, lora=tuple((in_folder(name, path.parent.joinpath), s) for name, s in scene.lora))
            )
        except ScriptError as error:
            raise ScriptError(f"{path}: {where}: {error}") from error
        clock = math.nan if scenes[-1].seconds is None else clock + scenes[-1].seconds
    return scenes, {"abrupt": _abrupt(table["abrupt"], path)} if "abrupt" in table else {}


def _abrupt(given: Any, path: Path) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 2:
        raise ScriptError(f"{path}: abrupt is a distance of prompts from 0 (equal) to 2, not {given!r}")
    return float(given)


def _begins(scenes: list[Scene], clock: float, at: Any, path: Path, where: str) -> tuple[list[Scene], float]:
    """`at` gives the second at which a scene begins, and so the length of the one before it."""
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) or at < 0:
        raise ScriptError(f"{path}: {where}: at must be a second of the video, not {at!r}")
    if not scenes:
        if at != 0:
            raise ScriptError(f"{path}: the first scene begins at 0, not at {at:g}")
        return scenes, 0.0
    before = scenes[-1]
    begun = sum(s.seconds or 0.0 for s in scenes[:-1])
    if at <= begun or (before.seconds is not None and abs(clock - at) > 1e-9):
        raise (
            ScriptError(
                f"{path}: {where} begins at {at:g} s, but the scene before it ends at {max(clock, begun):g} s: "
                "times must go forward and fit"
            )
            if not math.isnan(clock)
            else ScriptError(
                f"{path}: {where} begins at {at:g} s, which is not after the scene before it ({begun:g} s): times must go forward"
            )
        )
    return [*scenes[:-1], replace(before, seconds=at - begun)], float(at)


def _only(row: dict[str, Any], known: set[str], path: Path, where: str) -> None:
    for key in row:
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it may have {', '.join(sorted(known))}"
            raise ScriptError(f"{path}: {where} has an unknown key {key!r}: {hint}")
