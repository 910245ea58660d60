"""The input files of a request: parts of a form, data: URLs, or uploads. Nothing is ever fetched from a URL."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from longtake.core.files import json_object
from longtake.server.errors import ApiError
from longtake.server.requests.uploads.check import TAKEN, FileCheck
from longtake.server.requests.uploads.store import ID, UploadStore

_DATA = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{1,100}){0,4};base64,", re.IGNORECASE)
BLOCK = 1 << 20


@dataclass
class InputFiles:
    """The input files of one request, by the input of a video that they are, in a folder that lives as long as the request."""

    folder: Path
    checks: FileCheck
    uploads: UploadStore
    files: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # of the last file

    def new_path(self) -> Path:
        """Return the path of a further file."""
        return self.folder / f"part{len(list(self.folder.iterdir()))}"

    async def take(self, name: str, path: Path) -> None:
        """Check the file of a field and keep it. ApiError if the field takes no such file, or has one already."""
        if name not in TAKEN:
            raise ApiError(400, "invalid_field", f"No input is named {name}: use {', '.join(sorted(TAKEN))}.", name)
        checked = await self.checks.check(path, name, TAKEN[name])
        kind = checked.kind.name if name in ("input_reference", "file") else name
        if kind in self.files:
            raise ApiError(400, "invalid_field", f"The request has two files for {kind}: send one.", name)
        named = self.folder / f"{kind}{checked.kind.suffix}"
        path.rename(named)
        self.files[kind], self.digests[kind] = named, await asyncio.to_thread(_sha256, named)
        self.facts = {"kind": checked.kind.name, **checked.facts}

    async def take_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Take the files that values stand for, and return the other values."""
        rest = dict(values)
        for name in TAKEN:
            text = _reference(rest.get(name))
            if text is None or (name == "video" and not ID.fullmatch(text) and not _is_url(text)):
                continue  # a video may also be the id of one that this server made
            path = self.new_path()
            if ID.fullmatch(text):
                shutil.copyfile(self.uploads.path(text, name), path)
            else:
                path.write_bytes(data_of(text, name))
            await self.take(name, path)
            del rest[name]
        return rest


def _reference(value: Any) -> str | None:
    """Return the text of a value that stands for a file: a URL, an id, or an object of the API with one of them."""
    if isinstance(value, str) and value[:1] == "{":
        try:
            value = json_object(value)
        except ValueError:
            return value
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("image_url", "url", "file_id", "id") if key in value), None)
        value = value.get("url") if isinstance(value, Mapping) else value
    return value if isinstance(value, str) and value else None


def _is_url(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,20}:", text) is not None


def data_of(text: str, name: str) -> bytes:
    """Return the bytes of a data: URL. ApiError 400 for anything else, such as the address of another server."""
    found = _DATA.match(text)
    if found is None:
        message = f"{name} must be a file in a form, the id of an upload, or a data: URL in base64"
        fetched = "; this server fetches nothing from other addresses" if _is_url(text) else ""
        raise ApiError(400, "invalid_value", f"{message}{fetched}.", name)
    try:
        return base64.b64decode(text[found.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, "invalid_value", f"The data: URL of {name} is not valid base64.", name) from error


def copy_part(source: BinaryIO, path: Path) -> None:
    """Write the file of a form to a path."""
    source.seek(0)
    with open(path, "xb") as file:
        shutil.copyfileobj(source, file, BLOCK)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
