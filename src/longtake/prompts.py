"""The prompt stream: how a script changes while it is being made. Pure; what has begun is never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from longtake.script import Scene, Script, ScriptError

Op = Literal["add", "insert", "replace"]
OPS: tuple[Op, ...] = get_args(Op)
SECONDS = 5.0  # of a scene that does not say how long it lasts


class TooLate(ScriptError):
    """An edit of what has begun. earliest: the first output frame that can still change (None: none can)."""

    def __init__(self, message: str, earliest: int | None):
        super().__init__(message)
        self.earliest = earliest


@dataclass(frozen=True)
class Edit:
    """A change of the script.

    add: a scene after the last one. insert: a scene from `at` on; what was planned from there on comes `frames` later.
    replace: another prompt from `at` to the end of the scene that is there. at: an output frame (None: as early as can
    be). frames: the length of what is added or inserted. cut: as in `Scene` (None: as it was, or no cut).
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
        """A json-able record."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Edit:
        """Undo `facts`; keys of others are passed over. ScriptError if it is no edit."""
        try:
            return Edit(**{k: v for k, v in facts.items() if k in Edit.__dataclass_fields__})
        except TypeError as error:
            raise ScriptError(f"that is no edit ({error})") from error


def resolved(script: Script, edit: Edit, earliest: int | None, fps: float) -> Edit:
    """The edit with its place and length filled in. TooLate if it would change what comes before `earliest`.

    A scene behind the end of a video changes nothing before it.
    """
    frames = edit.frames or max(1, round(SECONDS * fps))
    at = _place(script, edit, earliest, fps)
    behind = edit.op == "add" and script.frames is not None
    if earliest is None or (at < earliest and not behind):
        raise TooLate(_too_late(edit, at, earliest, fps), earliest)
    if edit.op != "add" and script.frames is not None and at >= script.frames:
        raise ScriptError(f"the video ends at {script.frames / fps:.2f} s: use add to make it longer")
    return replace(edit, at=at, frames=None if edit.op == "replace" else frames)


def _place(script: Script, edit: Edit, earliest: int | None, fps: float) -> int:
    if edit.op != "add":
        return edit.at if edit.at is not None else earliest or 0
    if script.frames is not None:
        return script.frames
    last = script.scenes[-1].seconds or SECONDS
    return max(earliest or 0, script.starts[-1] + round(last * fps), edit.at or 0)


def _too_late(edit: Edit, at: int, earliest: int | None, fps: float) -> str:
    if earliest is None:
        return "the last clip has begun, so the end of this video can no longer change: begin a new one"
    return (
        f"{at / fps:.2f} s has been made, or is being made now: the earliest time that can still change is "
        f"{earliest / fps:.2f} s (leave --at out to use it)"
    )


def edited(script: Script, edit: Edit, fps: float) -> Script:
    """The script after a resolved edit."""
    assert edit.at is not None
    if edit.op == "replace":
        return _replaced(script, edit, fps)
    assert edit.frames is not None
    length = edit.frames
    before = [(start, scene) for start, scene in zip(script.starts, script.scenes) if start < edit.at]
    after = [(start + length, scene) for start, scene in zip(script.starts, script.scenes) if start >= edit.at]
    inside = before and edit.at not in script.starts and edit.op == "insert"
    if inside:  # the scene that it interrupts goes on behind it
        start, scene = before[-1]
        rest = replace(scene, cut=False, seconds=_left(scene, edit.at - start, fps))
        after = [(edit.at + length, rest), *after]
    lora = before[-1][1].lora if before else ()
    scene = Scene(edit.prompt, length / fps, edit.cut or False, lora)
    frames = None if script.frames is None else script.frames + length
    return _joined(script, [*before, (edit.at, scene), *after], frames)


def _left(scene: Scene, frames: int, fps: float) -> float | None:
    """Seconds that are left of a scene after some frames; None if it does not say, or goes on for longer than it said."""
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
