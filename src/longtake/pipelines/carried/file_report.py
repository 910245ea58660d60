"""What a video or image file says about how it was made: by longtake, by another tool, or nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.core.errors import SettingsError
from longtake.core.units import plural
from longtake.media.metadata import COMMENT, read_tags
from longtake.pipelines.carried.other_tools import OtherSettings, other_settings
from longtake.pipelines.carried.video_settings import MARK, VideoSettings, parsed, settings_of

MOST_SCENES = 40  # that the text lists


@dataclass(frozen=True)
class FileReport:
    """What a file says. ours: the settings of longtake. other: those of another tool. carried: the object of longtake as it
    stands in the file, also where it cannot be used. problem: why it cannot.
    """

    path: Path
    ours: VideoSettings | None = None
    other: OtherSettings | None = None
    carried: Mapping[str, Any] | None = None
    problem: str = ""

    @property
    def found(self) -> bool:
        """Whether the file says anything that can be used."""
        return self.ours is not None or self.other is not None

    def facts(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "file": self.path.name,
            "made_by": "longtake" if self.carried else None if self.other is None else self.other.tool,
            "settings": self.carried,
            "unknown": [] if self.ours is None else list(self.ours.unknown),
            "newer": self.ours is not None and self.ours.newer,
            "problem": self.problem or None,
            "keywords": {} if self.other is None else dict(self.other.keywords),
        }

    def lines(self) -> list[str]:
        """Return the report as lines of text, without control characters."""
        if self.ours is not None:
            lines = list(_lines(self.ours))
        elif self.carried is not None:
            lines = [f"made by longtake {self.carried.get('version', '')}".rstrip(), self.problem]
        elif self.other is not None:
            lines = [f"made by {self.other.tool}; longtake can take over:"]
            lines += [_row(name, value) for name, value in self.other.keywords.items()]
            lines += ["", self.other.command] if self.other.keywords else ["nothing that it knows"]
        else:
            lines = [f"{self.path} carries no settings: it was made by another tool, or with --no-metadata"]
        return [_printable(line) for line in lines]


def file_report(path: Path) -> FileReport:
    """Read what a video or image file says about how it was made. MediaError if it is no such file."""
    return report_of(path, read_tags(path))


def report_of(path: Path, tags: Mapping[str, str]) -> FileReport:
    """Return what the text tags of a file say. path: what messages name; nothing is read from it."""
    facts = parsed(tags.get(COMMENT, ""))
    if facts is None or MARK not in facts:
        return FileReport(path, other=other_settings(tags))
    try:
        return FileReport(path, settings_of(path, facts), carried=facts)
    except SettingsError as error:
        return FileReport(path, carried=facts, problem=str(error))


def _lines(found: VideoSettings) -> Iterator[str]:
    facts, settings = found.facts, found.settings
    newer = f", newer than the schema {found.schema} that this version knows" if found.newer else ""
    yield f"made by longtake {facts.get('version', '')}, schema {found.schema}{newer}"
    yield _row("model", f"{found.model} (SHA-256 {found.model_sha256 or 'unknown'})")
    yield from _scenes(found)
    size = f"{facts.get('video', {}).get('width', '?')}x{facts.get('video', {}).get('height', '?')}"
    length = "" if found.frames is None else f", {plural(found.frames, 'frame')}, {found.frames / settings.fps:.2f} s"
    yield _row("video", f"{size} at {settings.fps:g} fps{length}")
    yield _row("strategy", f"{settings.strategy}{_options(settings.strategy_options)}")
    sampling = {n: v for n, v in facts.get("sampling", {}).items() if n not in ("fps", "height", "width") and v != ""}
    yield _row("sampling", _options(sampling).strip())
    for table in ("load", "machine"):
        if isinstance(facts.get(table), dict):
            yield _row(table, _options(facts[table]).strip())
    for one in found.needed:
        yield _row("made with", f"{one.kind} {one.name or 'in memory'} (SHA-256 {one.sha256 or 'unknown'})")
    if found.unknown:
        yield _row("unknown", f"{', '.join(found.unknown)} (kept in the file; this version does not use them)")
    yield ""
    yield f"again: {_again(found)}"


def _scenes(found: VideoSettings) -> Iterator[str]:
    if found.script is None:
        yield _row("script", "left out, because it was too long for the file")
        return
    scenes, fps = found.script.scenes, found.settings.fps
    for scene, start in list(zip(scenes, found.script.starts))[:MOST_SCENES]:
        more = "" if not scene.cut else f" [cut: {scene.cut if isinstance(scene.cut, str) else 'yes'}]"
        more += "".join(f" [{name} {strength:g}]" for name, strength in scene.lora)
        yield _row("prompt" if len(scenes) == 1 else f"{start / fps:.2f} s", f"{scene.prompt}{more}")
    if len(scenes) > MOST_SCENES:
        yield _row("", f"and {plural(len(scenes) - MOST_SCENES, 'more scene')} (--format json lists all)")


def _again(found: VideoSettings) -> str:
    """Return the command that generates the video again."""
    needed = {one.kind: one for one in found.needed}
    words = (
        ["longtake", "generate"] if "video" not in needed else ["longtake", "extend", needed["video"].name or "VIDEO"]
    )
    words += ["--like", str(found.path)]
    for one in found.needed:
        if one.kind != "video":
            words += [f"--{one.kind.replace('_', '-')}", one.name or "FILE"]
    return shlex.join(words)


def _options(options: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in options.items() if value not in (None, "") and value is not False}
    return "".join(f" {name}={value}" for name, value in shown.items())


def _row(name: str, value: Any) -> str:
    return f"  {name:<12} {value}"


def _printable(line: str) -> str:
    """Replace what a terminal would obey: escape sequences, line breaks, marks of direction."""
    return "".join(char if char.isprintable() else "�" for char in line)
