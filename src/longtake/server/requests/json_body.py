"""JSON that a client sent: what later could not be computed with, kept or sent back is refused when it is read."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from starlette.requests import Request

from longtake.server.errors import ApiError

MOST_DIGITS = 20  # of a whole number: those of 2**64
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # how the half of a character is written, which may lack its other half


async def json_body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a body; an empty one for no body. ApiError 400 for anything else."""
    raw = await request.body()
    if not raw:
        return {}
    try:
        found = await asyncio.to_thread(parsed, raw)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__} instead of an object")
    except ValueError as error:
        raise ApiError(400, "invalid_json", f"The body is not a JSON object that can be read: {error}.") from error
    return found


def parsed(text: str | bytes) -> Any:
    """Parse JSON. ValueError for anything else, for halves of characters, and for whole numbers of more than 20 digits.

    Such numbers overflow wherever they are computed with, and half a character cannot be written to a file or an answer.
    """
    try:
        text = text if isinstance(text, str) else text.decode(json.detect_encoding(text))
        found = json.loads(text, parse_int=_whole)
        if _HALF.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    except UnicodeError as error:
        raise ValueError("it holds text that is not Unicode") from error
    return found


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"it holds a whole number of {len(digits):,} digits, and at most {MOST_DIGITS} are taken")
    return int(digits)
