"""The body of a request, as named values and files: JSON, or a form with files."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from longtake.server.errors import ApiError
from longtake.server.requests.form_fields import nested
from longtake.server.requests.json_body import json_body
from longtake.server.requests.uploads.check import FileCheck
from longtake.server.requests.uploads.inputs import InputFiles, copy_part
from longtake.server.requests.uploads.store import UploadStore

MOST_FILES = 6
MOST_FIELDS = 500
FIELD_BYTES = 1 << 20


@dataclass(frozen=True)
class Body:
    """What a request holds. files: the input files, by the input of a video that they are; digests: their SHA-256.

    facts: what the last file holds, such as its width, height, frames and seconds.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Bodies:
    """Reads the bodies of requests. uploads: the folder of files that were sent before."""

    def __init__(self, uploads: UploadStore, checks: FileCheck | None = None):
        self.uploads, self.checks = uploads, checks or FileCheck()

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[Body]:
        """Yield the body of a request; its files are there inside the block. Raises ApiError for what cannot be read."""
        with tempfile.TemporaryDirectory(prefix="longtake-", ignore_cleanup_errors=True) as folder:
            inputs = InputFiles(Path(folder), self.checks, self.uploads)
            if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                values = await _form(request, inputs)
            else:
                values = await json_body(request)
            rest = await inputs.take_values(values)
            yield Body(rest, inputs.files, inputs.digests, inputs.facts)


async def _form(request: Request, inputs: InputFiles) -> dict[str, Any]:
    """Return the values of a form, and hand its files on. A file is a part with a file name; the name itself is dropped."""
    fields: list[tuple[str, str]] = []
    try:
        async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=FIELD_BYTES) as form:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    fields.append((name, value))
                elif value.size or value.filename:  # a page sends an empty part where no file was chosen
                    await _take(name, value, inputs)
    except (HTTPException, MultiPartException) as error:
        reason = getattr(error, "detail", None) or getattr(error, "message", "")
        raise ApiError(400, "invalid_form", f"The form cannot be read: {reason}") from error
    return nested(fields)


async def _take(name: str, part: UploadFile, inputs: InputFiles) -> None:
    path = inputs.new_path()
    await asyncio.to_thread(copy_part, part.file, path)
    await inputs.take(name, path)
