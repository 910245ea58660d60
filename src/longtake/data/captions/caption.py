"""Captions of a shot, in named parts, and the sentences made of them.

The parts are those of the captions that SkyReels-V2 was trained with: subject, shot size, angle, position, camera motion,
environment and light. Each part may be empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from longtake.core.errors import InputError

SHOT_SIZES = ("extreme close-up", "close-up", "medium close-up", "medium", "medium wide", "wide", "extreme wide")
ANGLES = ("eye level", "low", "high", "overhead", "ground level", "dutch")
POSITIONS = ("front", "back", "side", "three-quarter", "over the shoulder", "point of view")
MOTIONS = {
    "static": "The camera does not move",
    "pan left": "The camera pans left",
    "pan right": "The camera pans right",
    "tilt up": "The camera tilts up",
    "tilt down": "The camera tilts down",
    "zoom in": "The camera zooms in",
    "zoom out": "The camera zooms out",
    "push in": "The camera moves towards the scene",
    "pull out": "The camera moves away from the scene",
    "truck left": "The camera moves left",
    "truck right": "The camera moves right",
    "crane up": "The camera rises",
    "crane down": "The camera sinks",
    "orbit": "The camera circles its subject",
    "follow": "The camera follows its subject",
    "handheld": "The camera is held by hand",
}
CHOICES: Mapping[str, Sequence[str]] = {
    "shot_size": SHOT_SIZES,
    "angle": ANGLES,
    "position": POSITIONS,
    "camera_motion": tuple(MOTIONS),
}
SEEN_FROM = {
    "front": "from the front",
    "back": "from behind",
    "side": "from the side",
    "three-quarter": "in three-quarter view",
    "over the shoulder": "over the shoulder",
    "point of view": "from the subject's own point of view",
}
AT_ANGLE = {
    "eye level": "at eye level",
    "low": "from below",
    "high": "from above",
    "overhead": "from straight overhead",
    "ground level": "from the ground",
    "dutch": "with a tilted horizon",
}


class CaptionError(InputError):
    """An empty caption, or a part with a value that is not allowed."""


@dataclass(frozen=True)
class Caption:
    """A caption in parts; an empty string is an absent part. The parts in CHOICES take values from lists, the others any text.

    subject: who or what is seen, and what it does. text: a caption given as one sentence, which replaces the parts.
    Raises CaptionError for a value that is not in its list.
    """

    text: str = ""
    subject: str = ""
    shot_size: str = ""
    angle: str = ""
    position: str = ""
    camera_motion: str = ""
    environment: str = ""
    light: str = ""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, str):
                raise CaptionError(f"{name} must be text, not {value!r}")
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value and value not in allowed:
                near = get_close_matches(value, allowed, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(allowed)}"
                raise CaptionError(f"{name} {value!r} is not allowed: {hint}")

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def sentence(self) -> str:
        """Return the caption as text for the text encoder."""
        if self.text:
            return self.text
        parts = (self._view(), MOTIONS.get(self.camera_motion, ""), self.environment, self.light)
        return " ".join(_sentence(part) for part in parts if part)

    def _view(self) -> str:
        """The view of the subject, and the subject."""
        size = (
            f"{self.shot_size} shot" if self.shot_size and not self.shot_size.endswith("close-up") else self.shot_size
        )
        view = ", ".join(part for part in (size, SEEN_FROM.get(self.position), AT_ANGLE.get(self.angle)) if part)
        return f"{view}: {self.subject}" if view and self.subject else view or self.subject

    def facts(self) -> dict[str, str]:
        """Return the parts that are not empty, JSON-able; `Caption(**facts)` reads them back."""
        return {name: value for name, value in asdict(self).items() if value}

    @staticmethod
    def from_parts(parts: Mapping[str, Any]) -> Caption:
        """Return a caption from named parts, such as a row of a table; "caption" means text, and "shot size" shot_size."""
        own = {field.name for field in fields(Caption)}
        found = {}
        for name, value in parts.items():
            key = "text" if name == "caption" else name.strip().lower().replace(" ", "_").replace("-", "_")
            if key not in own:
                raise CaptionError(
                    f"a caption has no part {name!r}: the parts are caption, {', '.join(sorted(own - {'text'}))}"
                )
            if isinstance(value, Sequence) and not isinstance(value, str) and key == "subject":
                value = _listed([tidy(str(one)) for one in value])
            value = tidy(value) if isinstance(value, str) else value
            found[key] = value.lower() if key in CHOICES and isinstance(value, str) else value
        return Caption(**{key: "" if value is None else value for key, value in found.items()})


def tidy(text: str) -> str:
    """Return the text with single spaces, and none at the ends."""
    return " ".join(text.split())


def _sentence(part: str) -> str:
    return part[0].upper() + part[1:] + ("" if part[-1] in ".!?" else ".")


def _listed(names: Sequence[str]) -> str:
    """Join names as "a, b and c"."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
