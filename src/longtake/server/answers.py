"""JSON answers, which hold no path of the server and can always be written."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.responses import JSONResponse

_FOLDERS = re.compile(r"(?<![\w:/.~\\])(?:~?/|[A-Za-z]:[\\/])(?:[^\s/\\'\"]+[\\/])+")


def as_json(value: Any) -> bytes:
    """Return JSON as UTF-8. Half a character, which a file of another program may hold, becomes a question mark.

    ValueError for a number that is not finite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


class JsonAnswer(JSONResponse):
    """An answer of JSON values."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return as_json(content)


def without_folders(message: str) -> str:
    """Return a message with the names of files in place of their paths, which are no business of a client."""
    return _FOLDERS.sub("", message)
