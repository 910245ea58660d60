"""Edits of a script while its video is generated. Pure functions; what has begun is never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from longtake.core.errors import ScriptError
from longtake.planning.script import Scene, Script

Op = Literal["add", "insert", "replace"]
OPS: tuple[Op, ...] = get_args(Op)
DEFAULT_SECONDS = 5.0  # length of a scene that does not give one


class TooLate(ScriptError):
    """An edit of frames that have begun. earliest: the first output frame that can still change (None: none can)."""

    def __init__(self, message: str, earliest: int | None):
        super().__init__(message)
        self.earliest = earliest


@dataclass(frozen=True)
class Edit:
    """A change of the script.

    add: put a scene after the last one. insert: put a scene at `at`; what was planned from there on comes `frames` later.
    replace: change the prompt from `at` to the end of the scene there. at: an output frame (None: as early as possible).
    frames: length of the added or inserted scene. cut: as in `Scene` (None: as it was, or no cut).
    """

    op: Op
    prompt: str
    at: int | None = None
    frames: int | None = None
    cut: bool | str | None = None

    def __post_init__(self):
        if self.op not in OPS:
            raise ScriptError(f"an edit is one of {', '.join(OPS)}, not {self.op!r}")
        Scene(self.prompt, cut=bool(self.cut) if self.cut is None else self.cut)
        for name in ("at", "frames"):
            value = getattr(self, name)
            least = 0 if name == "at" else 1
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ScriptError(f"{name} of an edit is a number of frames, at least {least}, not {value!r}")

    def facts(self) -> dict[str, Any]:
        """Return the fields that are set, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Edit:
        """Read an edit from `facts`, ignoring other keys. ScriptError if it is not an edit."""
        try:
            return Edit(**{k: v for k, v in facts.items() if k in Edit.__dataclass_fields__})
        except TypeError as error:
            raise ScriptError(f"this is not an edit ({error})") from error


def resolved(script: Script, edit: Edit, earliest: int | None, fps: float) -> Edit:
    """Fill in the place and length of an edit. TooLate if it would change frames before `earliest` (None: all have begun).

    A scene added behind the end of a video changes nothing before it.
    """
    frames = edit.frames or max(1, round(DEFAULT_SECONDS * fps))
    at = _place(script, edit, earliest, fps)
    behind = edit.op == "add" and script.frames is not None
    if earliest is None or (at < earliest and not behind):
        raise too_late(at, earliest, fps)
    if edit.op != "add" and script.frames is not None and at >= script.frames:
        raise ScriptError(f"the video ends at {script.frames / fps:.2f} s: use add to make it longer")
    return replace(edit, at=at, frames=None if edit.op == "replace" else frames)


def _place(script: Script, edit: Edit, earliest: int | None, fps: float) -> int:
    if edit.op != "add":
        return edit.at if edit.at is not None else earliest or 0
    if script.frames is not None:
        return script.frames
    last = script.scenes[-1].seconds or DEFAULT_SECONDS
    return max(earliest or 0, script.starts[-1] + round(last * fps), edit.at or 0)


def too_late(at: int, earliest: int | None, fps: float) -> TooLate:
    """Make the error for an edit at an output frame that has begun. earliest: the first one that has not (None: none)."""
    if earliest is None:
        return TooLate(
            "the last clip has begun, so the end of this video can no longer change: start another video with longtake "
            "extend",
            None,
        )
    return TooLate(
        f"{at / fps:.2f} s is generated already, or is being generated now: the earliest time that can still change is "
        f"{earliest / fps:.2f} s (leave --at out to use it)",
        earliest,
    )


def edited(script: Script, edit: Edit, fps: float) -> Script:
    """Apply a resolved edit to a script."""
    assert edit.at is not None
    if edit.op == "replace":
        return _replaced(script, edit, fps)
    assert edit.frames is not None
    length = edit.frames
    before = [(start, scene) for start, scene in zip(script.starts, script.scenes) if start < edit.at]
    after = [(start + length, scene) for start, scene in zip(script.starts, script.scenes) if start >= edit.at]
    inside = before and edit.at not in script.starts and edit.op == "insert"
    if inside:  # the scene that it interrupts continues behind it
        start, scene = before[-1]
        rest = replace(scene, cut=False, seconds=_left(scene, edit.at - start, fps))
        after = [(edit.at + length, rest), *after]
    lora = before[-1][1].lora if before else ()
    scene = Scene(edit.prompt, length / fps, edit.cut or False, lora)
    frames = None if script.frames is None else script.frames + length
    return _joined(script, [*before, (edit.at, scene), *after], frames)


def _left(scene: Scene, frames: int, fps: float) -> float | None:
    """Return the seconds that are left of a scene after some frames; None if it has no length, or has already lasted longer."""
    left = None if scene.seconds is None else scene.seconds - frames / fps
    return left if left is not None and left > 0 else None


def _replaced(script: Script, edit: Edit, fps: float) -> Script:
    assert edit.at is not None
    rows = list(zip(script.starts, script.scenes))
    number = max(i for i, (start, _) in enumerate(rows) if start <= edit.at)
    start, old = rows[number]
    whole = start == edit.at
    cut = edit.cut if edit.cut is not None else (old.cut if whole else False)
    rows[number : number + 1] = [
        *([] if whole else [(start, old)]),
        (edit.at, replace(old, prompt=edit.prompt, cut=cut, seconds=_left(old, edit.at - start, fps))),
    ]
    return _joined(script, rows, script.frames)


def _joined(script: Script, rows: list[tuple[int, Scene]], frames: int | None) -> Script:
    starts, scenes = zip(*rows)
    return replace(script, scenes=scenes, starts=starts, frames=frames)
