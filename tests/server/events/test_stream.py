"""Server-sent events over a real socket: nothing missing and nothing twice, wherever the connection breaks."""

import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest
from starlette.applications import Starlette

from longtake.server.delivery.feeds import Feeds
from longtake.server.errors import ApiError, on_api_error
from longtake.server.events.history import History
from longtake.server.events.stream import EventStream
from tests.server.serving import served


class Place:
    """A history behind a server. ended: the ids of videos to which nothing will happen."""

    def __init__(self, kept=20_000, heartbeat=0.05):
        self.history, self.feeds, self.ended = History(kept), Feeds(lambda id: None), set()
        stream = EventStream(self.history, self.feeds, self.snapshot, self.ended.issuperset, heartbeat)
        self.app = Starlette(routes=stream.routes(), exception_handlers={ApiError: on_api_error})

    def snapshot(self, ids):
        return {"videos": list(ids or ["all"]), "last": self.history.last}

    def publish(self, count, subject="video_1"):
        for _ in range(count):
            self.history.publish(subject, "step", {"number": self.history.last + 1})


@pytest.fixture
def place():
    return Place()


class Reader:
    """An event source: reads a number of bytes, breaks the connection, and continues with the last complete id."""

    def __init__(self, address, query=""):
        self.host, port = address.removeprefix("http://").split(":")
        self.port, self.query, self.last, self.events, self.first = int(port), query, None, [], 0

    def read(self, most):
        """Read `most` bytes of the body of one connection, or all of it; return its status."""
        with socket.create_connection((self.host, self.port), timeout=10) as connection:
            last = f"Last-Event-ID: {self.last}\r\n" if self.last else ""
            head = f"GET /v1/events{self.query} HTTP/1.0\r\nHost: {self.host}\r\n{last}\r\n"
            connection.sendall(head.encode())
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            status, _, body = int(data.split()[1]), *data.partition(b"\r\n\r\n")[1:]
            while len(body) < most and (more := connection.recv(min(65536, most - len(body)))):
                body += more
        self.take(body[:most].decode("utf-8", "ignore"))
        return status

    def take(self, text):
        """Read the complete blocks, as the standard says: the rest is thrown away."""
        for block in text.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
            self.last = fields.get("id", self.last)
            if "data" in fields:
                self.events.append((fields["event"], json.loads(fields["data"])))
            if fields.get("event") == "snapshot":
                self.first = int(self.last.partition("-")[2]) + 1  # the number of the event behind the last snapshot


def test_a_snapshot_comes_first_then_what_happens(place):
    place.publish(3)
    with served(place.app) as address, httpx.stream("GET", address + "/v1/events", timeout=10) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-accel-buffering"] == "no"
        lines = answer.iter_lines()
        head = [next(lines) for _ in range(5)]
        assert (
            head[0].startswith("retry: ")
            and head[2] == f"id: {place.history.id_of(3)}"
            and head[3] == "event: snapshot"
        )
        assert json.loads(head[4].removeprefix("data: ")) == {"videos": ["all"], "last": 3}
        place.publish(1)
        while (line := next(lines)) != "event: step":
            assert line == "" or line.startswith((":", "id: "))  # a heartbeat
        assert json.loads(next(lines).removeprefix("data: ")) == {"id": "video_1", "number": 4}


def test_heartbeats_keep_the_connection(place):
    with served(place.app) as address, httpx.stream("GET", address + "/v1/events", timeout=10) as answer:
        beats = (line for line in answer.iter_lines() if line.startswith(":"))
        assert [next(beats) for _ in range(3)] == [": still here"] * 3


@pytest.mark.parametrize("seed", range(2))
def test_a_hundred_breaks_at_random_bytes(place, seed):
    """Every event once and in order, while events happen, however the connection is cut."""
    rng, stop = random.Random(seed), threading.Event()

    def happen():
        while not stop.is_set():
            place.publish(7)
            stop.wait(0.002)

    with served(place.app) as address, ThreadPoolExecutor(1) as pool:
        reader, happening = Reader(address), pool.submit(happen)
        try:
            for _ in range(100):
                reader.read(rng.randrange(1, 1500))
        finally:
            stop.set()
            happening.result()
        while reader.events[-1][1].get("number") != place.history.last:
            reader.read(rng.randrange(500, 1500))
    snapshots = [i for i, (name, _) in enumerate(reader.events) if name == "snapshot"]
    assert {name for name, _ in reader.events} == {"snapshot", "step"}
    start = snapshots[-1]  # a connection that broke before the first id begins again
    seen = [data["number"] for _, data in reader.events[start + 1 :]]
    assert seen == list(range(reader.first, place.history.last + 1)) and len(seen) > 100


@pytest.mark.parametrize("last", ["nonsense", "00000000-5"])
def test_an_unknown_id_gives_a_reset(place, last):
    place.publish(2)
    with served(place.app) as address:
        reader = Reader(address)
        reader.last = last
        reader.read(200)
    assert [name for name, _ in reader.events] == ["reset", "snapshot"]


def test_an_id_that_is_too_old_gives_a_reset():
    place = Place(kept=10)
    place.publish(50)
    with served(place.app) as address:
        reader = Reader(address)
        reader.last = place.history.id_of(20)
        reader.read(200)
        assert [name for name, _ in reader.events] == ["reset", "snapshot"]


def test_a_slow_subscriber_is_disconnected_and_starts_again():
    """Its memory is its place: what it does not read is not kept for it."""
    place = Place(kept=50)
    with served(place.app) as address:
        reader = Reader(address)
        with socket.create_connection((reader.host, reader.port), timeout=10) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.sendall(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n")
            while not place.feeds.viewers["events"]:
                time.sleep(0.01)
            for _ in range(400):
                place.publish(100)
            data = b""
            while more := slow.recv(65536):
                data += more
        reader.take(data.partition(b"\r\n\r\n")[2].decode("utf-8", "ignore"))
        numbers = [data["number"] for name, data in reader.events if name == "step"]
        assert numbers == [*range(min(numbers, default=0), max(numbers, default=-1) + 1)] and len(numbers) < 40_000
        reader.events.clear()
        reader.read(200)
        assert [name for name, _ in reader.events] == ["reset", "snapshot"]


def test_a_selection_ends_for_good(place):
    place.publish(5, "video_1")
    place.publish(5, "video_2")
    with served(place.app) as address:
        reader = Reader(address, "?ids=video_1")
        reader.last = place.history.id_of(2)
        place.ended.add("video_1")
        assert reader.read(1 << 20) == 200  # what was missed, then the end
        assert [data["number"] for _, data in reader.events] == [3, 4, 5]
        assert reader.last == place.history.id_of(10)
        assert reader.read(1 << 20) == 204  # EventSource does not connect again after 204


def test_invalid_selections(place):
    with served(place.app) as address:
        assert httpx.get(address + "/v1/events?ids=").json()["error"]["param"] == "ids"
