"""Text in video and image files: the comment that a video carries, and the tags that any file has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import av

from longtake.core.errors import MediaError
from longtake.core.files import problem_of
from longtake.core.process.notices import notice

COMMENT = "comment"
MOST_TEXT = 1 << 20  # characters of a comment that is written: players read it before the first frame
MOST_READ = 1 << 24  # characters of a tag that is read; others are left out
IMAGES = (".gif", ".webp", ".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
EXIF, USER_COMMENT = 0x8769, 0x9286
ENCODINGS = {b"ASCII\0\0\0": "utf-8", b"UNICODE\0": "utf-16-be"}  # of a UserComment, by its first 8 bytes
DESCRIPTIONS = {0x010E: "description", 0x010F: "make", 0x0110: "model"}  # tags of EXIF that tools write JSON into
MUXER_OPTIONS = {".mov": {"movflags": "faststart+use_metadata_tags"}}  # else QuickTime cuts a text at 64 KB


def read_tags(path: Path) -> dict[str, str]:
    """Return the text tags of a video or image file by their names in lower case. MediaError if it cannot be read.

    Text that is not UTF-8 is kept with replacement characters; no frame is decoded.
    """
    if problem := problem_of(path):
        raise MediaError(f"{path} cannot be read: {problem}")
    found = _image_tags(path) if path.suffix.lower() in IMAGES else _container_tags(path)
    return {name.lower(): text for name, text in found.items() if len(text) <= MOST_READ}


def check_comment(path: Path, text: str) -> None:
    """Read a comment back. MediaError unless the file holds exactly this one."""
    if read_tags(path).get(COMMENT) != text:
        raise MediaError(f"{path.name} does not hold the settings that were written into it")


def comment_text(facts: Mapping[str, Any], most: int = MOST_TEXT) -> str:
    """Return the object as the text of a comment, of at most so many characters; "" if even the rest is longer.

    A script that makes it longer is left out, and a notice says so.
    """
    text = _dumped(facts)
    if len(text) <= most:
        return text
    short = _dumped({name: value for name, value in facts.items() if name != "script"} | {"left_out": ["script"]})
    held = "all settings but the script" if len(short) <= most else "no settings"
    notice(
        f"the script has {len(text):,} characters, so the video file carries {held} (at most {most:,}): keep the script"
    )
    return short if len(short) <= most else ""


def image_comment(suffix: str, text: str) -> dict[str, Any]:
    """Return the arguments of Pillow's `save` that put a comment into an animation of this kind: .gif or .webp."""
    if suffix == ".gif":
        return {"comment": text.encode()}
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(EXIF)[USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    return {"exif": exif.tobytes()}


def _container_tags(path: Path) -> Mapping[str, str]:
    try:
        own = {"protocol_whitelist": "file"}  # a playlist that is named like a video is not followed into the network
        with av.open(f"file:{path}", metadata_errors="replace", options=own) as container:
            return dict(container.metadata)
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{path} cannot be read as a video: {getattr(error, 'strerror', None) or error}") from error


def _image_tags(path: Path) -> Mapping[str, str]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            info = {str(name): value for name, value in image.info.items()}
            found = {name: _text(value) for name, value in info.items() if isinstance(value, str | bytes)}
            exif = image.getexif()
            notes = {DESCRIPTIONS[tag]: _text(value) for tag, value in exif.items() if tag in DESCRIPTIONS}
            raw = exif.get_ifd(EXIF).get(USER_COMMENT, b"")
    except Exception as error:  # Pillow raises errors of many kinds for damaged files
        raise MediaError(f"{path} cannot be read as an image: {error}") from error
    if isinstance(raw, bytes) and raw[:8] in ENCODINGS:
        notes[COMMENT] = raw[8:].decode(ENCODINGS[raw[:8]], "replace").rstrip("\0")
    elif raw:
        notes[COMMENT] = _text(raw)
    found.update(notes)
    return {name: text for name, text in found.items() if name not in ("exif", "icc_profile")}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _dumped(facts: Mapping[str, Any]) -> str:
    write = {"separators": (",", ":"), "default": _plain}
    text = json.dumps(facts, ensure_ascii=False, **write)  # type: ignore[arg-type]
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a character, as an undecodable word of a command line has
        text = json.dumps(facts, **write)  # type: ignore[arg-type]
    return text


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
