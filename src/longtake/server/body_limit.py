"""ASGI middleware that bounds the bodies of requests: in bytes, counted as they arrive, and in the time between two parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake.core.units import size
from longtake.server.errors import ApiError, error_response
from longtake.server.security import header

JSON_BYTES = 32 << 20  # images may be in it as data: URLs
FORM_BYTES = 256 << 20
SLOWEST = 60.0  # seconds between two parts of a body


def most_bytes(scope: Scope) -> int:
    """Return how many bytes the body of a request may have: files arrive in forms, JSON is text."""
    is_form = (header(scope, "content-type") or "").lower().startswith("multipart/form-data")
    return FORM_BYTES if is_form else JSON_BYTES


class BodyLimit:
    """Middleware that answers 413 to a body that is too large, and 408 to one that stops arriving.

    most: bytes for a request. slowest: seconds between two parts. A Content-Length that is too small or missing changes
    nothing, since the bytes themselves are counted.
    """

    def __init__(self, app: ASGIApp, most: Callable[[Scope], int] = most_bytes, slowest: float = SLOWEST):
        self.app, self.most, self.slowest = app, most, slowest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def sender(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            most = self.most(scope)
            length = header(scope, "content-length") or "0"
            if length.isascii() and length.isdigit() and int(length[:20]) > most:
                raise _too_large(most)
            await self.app(scope, _Counted(receive, most, self.slowest).receive, sender)
        except ApiError as error:
            if started:
                raise
            await error_response(error)(scope, receive, send)


class _Counted:
    """The receiving side of a request, with the bytes that came so far."""

    def __init__(self, receive: Receive, most: int, slowest: float):
        self._receive, self.most, self.slowest = receive, most, slowest
        self.bytes, self.complete = 0, False

    async def receive(self) -> Message:
        """Return the next message; ApiError 413 behind the limit, 408 if nothing arrives in time."""
        if self.complete:  # what follows is the end of the connection, which may be hours away
            return await self._receive()
        try:
            async with asyncio.timeout(self.slowest):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "body_timeout", f"No part of the body arrived for {self.slowest:g} s.") from None
        self.bytes += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        if self.bytes > self.most:
            raise _too_large(self.most)
        return message


def _too_large(most: int) -> ApiError:
    return ApiError(413, "body_too_large", f"The body of this request may have at most {size(most)}.")
