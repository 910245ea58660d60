"""JSON lines with a checksum of their own, so that damage is named by the file and line that it is in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

CHECK = "check"  # the key of the checksum, always the last one
_SEALED = re.compile(rb'(\{.*),"check":"([0-9a-f]{16})"\}\n', re.DOTALL)


def sealed(value: Mapping[str, Any], before: str = "") -> tuple[bytes, str]:
    """Return the line of an object, and its checksum: 16 hex digits of the SHA-256 of `before` and the line without it.

    before: the checksum of the line before, so that a missing line shows too.
    """
    body = json.dumps(dict(value), ensure_ascii=False, separators=(",", ":")).encode()
    check = _check(body, before)
    return body[:-1] + b',"check":"' + check.encode() + b'"}\n', check


def unsealed(raw: bytes, before: str = "") -> tuple[dict[str, Any], str] | None:
    """Return the object of a line without its checksum, and the checksum; None if the line is not as it was written."""
    found = _SEALED.fullmatch(raw)
    if found is None:
        return None
    body, check = found[1] + b"}", found[2].decode()
    if _check(body, before) != check:
        return None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return (value, check) if isinstance(value, dict) else None


def _check(body: bytes, before: str) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()[:16]
