"""An answer in parts ends when the viewer leaves, or stops reading."""

import asyncio

import pytest

from longtake.server.delivery.media_response import MediaResponse


class Parts:
    """An endless body that notes when it is closed, and how many parts were asked for."""

    def __init__(self):
        self.closed, self.asked = False, 0

    async def parts(self):
        try:
            while True:
                self.asked += 1
                yield b"x" * 1000
        finally:
            self.closed = True


def answer(body, send, receive, stall=5.0, method="GET"):
    """Send an answer over an ASGI connection that a test plays."""
    response = MediaResponse(body.parts(), 200, {}, stall)
    asyncio.run(asyncio.wait_for(response({"type": "http", "method": method}, receive, send), 5))


async def stays():
    await asyncio.sleep(1000)


def test_a_viewer_that_stops_reading_is_dropped():
    """One that reads nothing keeps one part in memory, and is dropped after a while."""
    body, sent = Parts(), []

    async def send(message):
        sent.append(message)
        if len(sent) > 3:
            await asyncio.sleep(1000)

    answer(body, send, stays, stall=0.05)
    assert body.closed and body.asked == 3
    assert sent[-1]["more_body"]  # the answer is not ended, so the client knows that something is missing


def test_a_viewer_that_leaves_ends_the_answer():
    body = Parts()

    async def send(message):
        await asyncio.sleep(0.001)

    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    answer(body, send, receive)
    assert body.closed


def test_head_sends_no_body():
    sent = []

    async def send(message):
        sent.append(message)

    answer(Parts(), send, stays, method="HEAD")
    assert [message.get("body", b"") for message in sent] == [b"", b""] and not sent[-1]["more_body"]


def test_an_error_in_the_body_is_raised():
    class Broken(Parts):
        async def parts(self):
            yield b"x"
            raise RuntimeError("a file is gone")

    async def send(message):
        pass

    with pytest.raises(RuntimeError, match="a file is gone"):
        answer(Broken(), send, stays)
