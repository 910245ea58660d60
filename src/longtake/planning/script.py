"""Scripts: scenes on a timeline of output frames."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

from longtake.core.errors import ScriptError
from longtake.core.geometry import frames_of_seconds
from longtake.core.options import plain

NETWORKS = ("high", "low")  # of a model of two networks, for one of which a LoRA may be meant
MOST_SECONDS = 10**10  # three hundred years: a longer scene is a mistake, or --endless
CUTS = ("anchor", "resample")  # ways for a scene to start, besides false (continue) and true (a new shot)
MOST_STRENGTH = 1000.0  # of a LoRA
SECONDS = 5.0  # of a scene without a length, in a script without one


@dataclass(frozen=True)
class Scene:
    """One prompt for a while. seconds None: a share of the time that the other scenes leave. An empty prompt is allowed.

    cut: false continues the shot; true starts a new shot without context; "anchor" starts it with the first frame of the
    shot before, and "resample" with that frame lightly denoised again under the new prompt.
    lora: file and strength of each LoRA; {file: strength}, or a list of files and [file, strength], is converted.
    """

    prompt: str
    seconds: float | None = None
    cut: bool | str = False
    lora: tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        if not isinstance(self.prompt, str):
            raise ScriptError(f"the prompt of a scene is a text in quotes, not {self.prompt!r}")
        object.__setattr__(self, "seconds", plain(self.seconds))
        if self.seconds is not None and not (
            isinstance(self.seconds, int | float)
            and not isinstance(self.seconds, bool)
            and 0 < self.seconds <= MOST_SECONDS  # isfinite fails for whole numbers of hundreds of digits
        ):
            raise ScriptError(f"scene {self.prompt!r}: seconds must be a positive number, not {self.seconds!r}")
        if not isinstance(self.cut, bool) and not (isinstance(self.cut, str | None) and self.cut in CUTS):
            raise ScriptError(f"scene {self.prompt!r}: cut is true, false, {' or '.join(CUTS)}, not {self.cut!r}")
        object.__setattr__(self, "lora", _loras(self.lora, f"scene {self.prompt!r}"))


@dataclass(frozen=True)
class Shot:
    """A run of scenes without a cut. first: its first output frame. frames: how many (None: without end)."""

    first: int
    frames: int | None


@dataclass(frozen=True)
class Script:
    """Scenes on a timeline of output frames. starts: first frame of each scene. frames: how many (None: without end).

    fps: frames per second of the counted frames, if known.
    abrupt: two prompts whose embeddings are further apart than this start a shot that is resampled from the anchor (None:
    only a scene's own `cut` does). The distance is 1 - cosine, from 0 to 2.
    """

    scenes: tuple[Scene, ...]
    starts: tuple[int, ...]
    frames: int | None
    fps: float | None = field(default=None, compare=False)
    abrupt: float | None = None

    @staticmethod
    def of(
        source: str | Script | Sequence[Scene], fps: float, seconds: float | None = None, endless: bool = False
    ) -> Script:
        """Make a script from a prompt or from scenes (`script_files.load_script` reads files too).

        seconds: the length of the whole; scenes without a length share what the others leave of it. Without `seconds`
        each of them lasts 5 s. endless: the last scene never ends. Raise ScriptError if the lengths do not fit.
        """
        if isinstance(source, Script):
            if seconds is not None or endless:
                raise ScriptError("a finished Script has its length: give its scenes instead, or no seconds")
            if source.fps not in (None, fps):
                raise ScriptError(
                    f"this Script counts frames at {source.fps:g} per second, but the video has {fps:g}: make it again "
                    f"with Script.of(..., {fps:g})"
                )
            return source
        listed = isinstance(source, list | tuple) and all(isinstance(one, Scene) for one in source)
        if not (listed or isinstance(source, str)):
            raise ScriptError(f"a script is a prompt, a list of scenes or a Script, not {source!r}")
        scenes = [Scene(source)] if isinstance(source, str) else list(source)
        if not scenes:
            raise ScriptError("the script has no scenes: write at least one prompt")
        return _timeline(scenes, fps, seconds, endless)

    def at(self, frame: int) -> Scene:
        """Return the scene of an output frame; the last scene has no end."""
        return self.scenes[max(0, bisect_right(self.starts, frame) - 1)]

    def shots(self) -> Iterator[Shot]:
        """Give the runs of scenes between cuts."""
        firsts = [start for i, (scene, start) in enumerate(zip(self.scenes, self.starts)) if scene.cut or i == 0]
        for first, after in zip(firsts, [*firsts[1:], self.frames]):
            yield Shot(first, None if after is None else after - first)

    def facts(self) -> dict[str, Any]:
        """Return a record for JSON. Scenes without LoRAs have no such key."""
        scenes = [{k: v for k, v in asdict(s).items() if k != "lora" or v} for s in self.scenes]
        rest = {} if self.abrupt is None else {"abrupt": self.abrupt}
        return {"scenes": scenes, "starts": list(self.starts), "frames": self.frames, **rest}

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> Script:
        """Make the script of a record that `facts` returned. Raise ScriptError if it is not one."""
        try:
            scenes, starts, frames = tuple(Scene(**s) for s in facts["scenes"]), tuple(facts["starts"]), facts["frames"]
        except (TypeError, KeyError, AttributeError) as error:
            raise ScriptError(f"this is not a recorded script ({type(error).__name__}: {error})") from error
        whole = all(isinstance(one, int) and one >= 0 for one in starts)
        if not (scenes and len(scenes) == len(starts) and whole and (frames is None or isinstance(frames, int))):
            raise ScriptError("a recorded script needs scenes, with a start for each in whole frames")
        return Script(scenes, starts, frames, abrupt=facts.get("abrupt"))


def network_of(lora: str) -> tuple[str, str]:
    """Split the name of a LoRA into its network and its file: high:FILE, low:FILE, or FILE alone ("")."""
    name, colon, file = lora.partition(":")
    return (name, file) if colon and name in NETWORKS else ("", lora)


def in_folder(lora: str, place: Callable[[str], Path]) -> str:
    """Return the name of a LoRA with another path for its file. place: from the path to the other one."""
    name, file = network_of(lora)
    return f"{name}:{place(file)}" if name else str(place(file))


def _loras(given: Any, where: str) -> tuple[tuple[str, float], ...]:
    """Check files and strengths, in any of the ways to write them."""
    if not isinstance(given, dict | list | tuple):
        raise ScriptError(f'{where}: lora is a table such as {{ "style.safetensors" = 0.8 }} or a list, not {given!r}')
    found: dict[str, float] = {}
    for row in given.items() if isinstance(given, dict) else given:
        pair = (row, 1.0) if isinstance(row, str) else row
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and pair[0].strip()):
            raise ScriptError(f"{where}: a LoRA is a file, or a file and a strength, not {row!r}")
        name, strength = pair[0], plain(pair[1])
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not abs(strength) <= MOST_STRENGTH:
            raise ScriptError(f"{where}: the strength of {name} must be a number such as 0.8, not {strength!r}")
        if name in found:
            raise ScriptError(f"{where}: {name} is named twice: add up its strengths")
        found[name] = float(strength)
    return tuple(found.items())


def _timeline(scenes: list[Scene], fps: float, seconds: float | None, endless: bool) -> Script:
    """Place scenes one after another. Times are exact fractions, so that no rounding adds up."""
    if seconds is not None:
        frames_of_seconds(seconds, fps)
    open_ = sum(s.seconds is None for s in scenes)
    given = sum(s.seconds for s in scenes if s.seconds is not None)
    share = SECONDS
    if seconds is not None and open_:
        share = (seconds - given) / open_
        if share <= 0:
            raise ScriptError(
                f"the scenes with a length last {given:g} s already, so nothing is left of {seconds:g} s for the other "
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
