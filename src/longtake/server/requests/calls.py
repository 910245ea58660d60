"""What the routes share: calls of the queue with their errors as those of the API, and who sends a request."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from longtake.core.errors import InputError
from longtake.pipelines.call.prompts import first_option, in_python_words
from longtake.planning.script_edits import TooLate
from longtake.runs.files.errors import DISK_FULL, RunError
from longtake.runs.jobs.records.folder import Sender
from longtake.runs.jobs.states import KeyReused, NoSuchJob, QueueFull, WrongState
from longtake.server.answers import without_folders
from longtake.server.errors import NO_RETRY, ApiError
from longtake.server.requests.body import Body
from longtake.server.requests.coercion import coerced

RETRY_AFTER = "30"  # seconds until a full queue may have room
T = TypeVar("T")


async def called(action: Callable[[], T]) -> T:
    """Run something of the queue in a thread. Its errors become ApiErrors."""
    try:
        return await asyncio.to_thread(action)
    except (NoSuchJob, WrongState, QueueFull, KeyReused, InputError, RunError, OSError) as error:
        raise api_error(error) from error


def api_error(error: Exception) -> Exception:
    """Return the ApiError that answers an error of the queue or of a request; others as they are."""
    text = without_folders(in_python_words(str(error)))
    if isinstance(error, NoSuchJob):
        return ApiError(404, "video_not_found", text)
    if isinstance(error, WrongState):
        return ApiError(409, f"video_{error.state}", text)
    if isinstance(error, QueueFull):
        return ApiError(429, "queue_full", text, None, {"retry-after": RETRY_AFTER})
    if isinstance(error, KeyReused):
        return ApiError(422, "idempotency_key_reused", text)
    if isinstance(error, TooLate):
        return ApiError(409, "too_late", text, "at")
    if isinstance(error, InputError):
        return ApiError(400, "invalid_value", text, first_option(str(error)) or _unknown_option(text))
    cause = error.__cause__ if isinstance(error, RunError) else error
    if isinstance(cause, OSError) and cause.errno in DISK_FULL:
        return ApiError(503, "disk_full", "The disk of the server is full.", None, NO_RETRY)
    return ApiError(409, "run_not_usable", text) if isinstance(error, RunError) else error


def _unknown_option(text: str) -> str | None:
    """Return the name that an error about a strange option quotes; None for other errors."""
    found = re.match(r"there is no (?:option|input) '(\w+)'", text)
    return found[1] if found else None


class Senders:
    """Who sends requests that make a job, and the idempotency keys of those that are being handled."""

    def __init__(self) -> None:
        self._handled: set[tuple[str, str, str]] = set()

    @contextmanager
    def handling(self, request: Request) -> Iterator[Callable[[Body], tuple[Sender, bool]]]:
        """Yield what says who sent a body, and whether the client sends it again.

        Raises ApiError 409 while a request with the same idempotency key is inside the block.
        """
        key, scope, action = _key(request), _scope(request), f"{request.method} {request.scope['path']}"
        mark = (scope, action, key or "")
        if key is not None and mark in self._handled:
            raise ApiError(409, "idempotency_key_in_use", "A request with this idempotency key is being handled.")
        retries = request.headers.get("x-stainless-retry-count", "0")
        resent = retries.isascii() and retries.isdigit() and int(retries[:9]) >= 1
        self._handled |= {mark} if key is not None else set()
        try:
            yield lambda body: (Sender(scope, action, fingerprint(body), key), resent)
        finally:
            self._handled.discard(mark)


def fingerprint(body: Body) -> str:
    """Return a hash of the fields and files of a request, however they were written."""
    values = {name: _same(value) for name, value in coerced(body.values).items()}
    canonical: Mapping[str, Any] = {"values": values, "files": dict(body.digests)}
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, default=str).encode()).hexdigest()


def _same(value: Any) -> Any:
    """Return equal numbers in one form: 4 for 4.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _scope(request: Request) -> str:
    """Return what stands for the token of a request, so that two users never get each other's videos by a key."""
    return hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()[:32]


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip()
    key = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable() and " " not in key):
        raise ApiError(400, "invalid_idempotency_key", "Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return key
