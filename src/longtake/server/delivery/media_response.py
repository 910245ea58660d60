"""An answer whose body arrives in parts: it ends when the viewer leaves, or stops reading for too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

STALL = 600.0  # seconds that a viewer may stop reading, such as in a pause; costs a socket and one block of memory


class MediaResponse(Response):
    """An answer whose body comes from an async generator, which is closed however the answer ends.

    A body that the generator breaks off by an error ends without its last chunk, so that a client knows.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        stall: float = STALL,
    ):
        self.parts, self.stall = parts, stall
        self.status_code, self.background = status_code, None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send, scope["method"] == "HEAD"))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self.parts.aclose()
        if not sending.cancelled() and (error := sending.exception()) and not isinstance(error, TimeoutError | OSError):
            raise error

    async def _send(self, send: Send, head: bool) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not head:
            async for part in self.parts:
                message = {"type": "http.response.body", "body": part, "more_body": True}
                async with asyncio.timeout(self.stall):  # wait_for of Python 3.11 can lose a cancellation
                    await send(message)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
