"""A server under load on the loopback interface: viewers of one endless video, queued jobs, and viewers that reconnect.

Starts `longtake serve` in a process of its own, queues an endless video of the model and jobs behind it, and watches the video
with many steady viewers (/stream?from=live) and one that breaks off at random and continues (/stream?from=SECONDS), beside a
reader of /v1/events that breaks off at random as well (Last-Event-ID). What each received is compared with the files of the
run: the command fails if a segment is missing, comes twice, or differs.

    python bench/serve.py --viewers 10 --jobs 30 --seconds 120
    python bench/serve.py --viewers 1 --jobs 0 --seconds 3600
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx
from common import report

LONGEST_VISIT = 8.0  # seconds until the viewer that reconnects breaks off
PAUSE = 0.02  # seconds between two calls of the routes


@dataclass
class Seen:
    """What a viewer received. segments: the numbers of its whole segments, in order. wrong: those whose bytes differ."""

    first_frame: float = 0.0
    segments: list[int] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """The endless video: its id on a server, and its folder. fps: of the video."""

    address: str
    id: str
    folder: Path
    fps: float

    def segment(self, number: int) -> bytes:
        """Return the bytes of a segment, which is written before any viewer is sent it."""
        return (self.folder / "media" / f"s{number:06d}.m4s").read_bytes()

    def count(self) -> int:
        """Return how many segments there are."""
        return len(list((self.folder / "media").glob("s*.m4s")))


def watch(run: Run, start: str, seen: Seen, limit: float = float("inf")) -> None:
    """Read a stream to its end, or for `limit` seconds, and note its whole segments. start: seconds, or live."""
    begun = time.monotonic()
    init = (run.folder / "media" / "init.mp4").read_bytes()
    url = f"{run.address}/v1/videos/{run.id}/stream"
    with httpx.stream("GET", url, params={"from": start}, timeout=600) as answer:
        answer.raise_for_status()
        number, expected, buffer = int(answer.headers["x-longtake-segment"]), b"", bytearray()
        for chunk in answer.iter_raw():
            buffer += chunk
            while True:
                if init:
                    expected = init
                elif not expected and buffer:
                    expected = run.segment(number)
                if not expected or len(buffer) < len(expected):
                    break
                same = bytes(buffer[: len(expected)]) == expected
                del buffer[: len(expected)]
                if not init:
                    seen.segments.append(number)
                    seen.first_frame = seen.first_frame or time.monotonic() - begun
                    number += 1
                if not same:
                    seen.wrong.append(number - 1)
                init, expected = b"", b""
            if time.monotonic() - begun > limit:
                return


def rewatch(run: Run, rng: random.Random, over: threading.Event) -> tuple[Seen, int]:
    """Watch from the first segment on, breaking off at random; return what was seen, and the number of visits."""
    seen, visits, frames = Seen(), 0, 0
    while not over.is_set() or len(seen.segments) < run.count():
        noted = len(seen.segments)
        with suppress(httpx.HTTPError):
            watch(run, str(frames / run.fps), seen, rng.uniform(0, LONGEST_VISIT))
        visits += 1
        for number in seen.segments[noted:]:
            frames += frames_of(run, number)
    return seen, visits


def frames_of(run: Run, number: int) -> int:
    """Return the number of output frames of a segment, from the journal of the run."""
    for line in (run.folder / "journal.jsonl").read_text().splitlines():
        facts = json.loads(line)
        if facts.get("segment", facts.get("index")) == number and "frames" in facts:
            return int(facts["frames"])
    raise LookupError(f"the journal has no segment {number}")


def listen(run: Run, rng: random.Random, over: threading.Event) -> tuple[dict[int, str], int, int]:
    """Read the events with breaks at random; return segments with their hashes, repeated events, and connections."""
    found: dict[int, str] = {}
    last, repeated, connections = "", 0, 0
    while True:
        connections += 1
        end = time.monotonic() + rng.uniform(0, LONGEST_VISIT)
        headers = {"last-event-id": last} if last else {}
        with (
            suppress(httpx.HTTPError),
            httpx.stream(
                "GET", f"{run.address}/v1/events", params={"ids": run.id}, headers=headers, timeout=60
            ) as answer,
        ):
            if answer.status_code == 204:
                return found, repeated, connections
            id = name = ""
            for line in answer.iter_lines():
                key, _, value = line.partition(": ")
                if key == "id":
                    id = value
                elif key == "event":
                    name = value
                elif key == "data" and name == "segment_written":
                    facts = json.loads(value)
                    repeated += facts["segment"] in found
                    found[facts["segment"]] = facts["sha256"]
                elif not line:
                    last, id, name = id or last, "", ""
                    if time.monotonic() > end and not over.is_set():
                        break


def call_routes(run: Run, over: threading.Event) -> dict[str, list[float]]:
    """Call routes one after the other until the end; return the seconds of each call."""
    routes = ("/v1/videos?limit=20", f"/v1/videos/{run.id}", "/v1/models", "/health", "/metrics")
    taken: dict[str, list[float]] = {route.replace(run.id, "{id}"): [] for route in routes}
    with httpx.Client(base_url=run.address, timeout=60) as client:
        while not over.is_set():
            for route, seconds in zip(routes, taken.values()):
                begun = time.perf_counter()
                client.get(route).raise_for_status()
                seconds.append(time.perf_counter() - begun)
                time.sleep(PAUSE)
    return taken


def memory(process: int) -> float:
    """Return the resident memory of a process in MB; 0 where the system does not tell it in /proc."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def server(output: Path) -> Iterator[tuple[str, int]]:
    """Start `longtake serve` on a free port; yield its address and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "longtake", "serve", "--port", str(port), "--output", str(output), "--device", "cpu"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            patiently(lambda: httpx.get(f"{address}/health").status_code == 200)
            yield address, process.pid
        finally:
            process.terminate()


def patiently(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait until a condition holds; what fails at the connection does not hold yet."""
    end = time.monotonic() + seconds
    while True:
        with suppress(httpx.HTTPError):
            if condition():
                return
        if time.monotonic() > end:
            raise SystemExit("the server did not begin in time")
        time.sleep(0.1)


def begun_run(address: str, output: Path, model: str) -> Run:
    """Queue the endless video, and wait for its first segment."""
    fields = {"model": model, "prompt": "a red ball rolls over the sand", "endless": True}
    id = httpx.post(f"{address}/v1/videos", json=fields).raise_for_status().json()["id"]
    url = f"{address}/v1/videos/{id}"
    patiently(lambda: httpx.get(url).json().get("segments_done", 0) > 0)
    return Run(address, id, output / id, float(httpx.get(url).json()["fps"]))


def measured(args: argparse.Namespace, address: str, process: int, output: Path) -> dict[str, tuple[float, str]]:
    """Load the server for the time that was asked for, check what everybody received, and return the figures."""
    run, over = begun_run(address, output, args.model), threading.Event()
    viewers = [Seen() for _ in range(args.viewers)]
    with ThreadPoolExecutor(args.viewers + 3) as pool:
        watching = [pool.submit(watch, run, "live", seen) for seen in viewers]
        again = pool.submit(rewatch, run, random.Random(args.seed), over)
        events = pool.submit(listen, run, random.Random(args.seed + 1), over)
        routes = pool.submit(call_routes, run, over)
        queueing = []
        for number in range(args.jobs):
            begun = time.perf_counter()
            httpx.post(f"{address}/v1/videos", json={"model": "clock", "prompt": f"{number}"}).raise_for_status()
            queueing.append(time.perf_counter() - begun)
        used = [memory(process)]
        end = time.monotonic() + args.seconds
        while time.monotonic() < end:
            time.sleep(1)
            used.append(memory(process))
        httpx.post(f"{address}/v1/videos/{run.id}/stop").raise_for_status()
        patiently(lambda: httpx.get(f"{address}/v1/videos/{run.id}").json()["state"] in ("completed", "failed"))
        over.set()
        for one in watching:
            one.result()
        figures = checked(run, viewers, again, events)
        taken = routes.result()
    firsts = [seen.first_frame for seen in viewers] or [0.0]
    figures["time to first frame, median"] = (statistics.median(firsts), "s")
    figures["time to first frame, longest"] = (max(firsts), "s")
    for route, seconds in {**taken, "POST /v1/videos": queueing}.items():
        if seconds:
            figures[f"{route}, p99 of {len(seconds)}"] = (1000 * quantile(seconds, 0.99), "ms")
    quarter = used[len(used) // 4 :]
    figures["memory of the server at the end"] = (used[-1], "MB")
    figures["its growth over the last three quarters"] = (quarter[-1] - quarter[0], "MB")
    return figures


def quantile(values: list[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def checked(
    run: Run, viewers: list[Seen], again: Future[tuple[Seen, int]], events: Future[tuple[dict[int, str], int, int]]
) -> dict[str, tuple[float, str]]:
    """Compare what was received with the files of the run; SystemExit if something is missing, repeated or different."""
    count = run.count()
    seen, visits = again.result()
    hashes, repeated, connections = events.result()
    for one in viewers:
        if one.wrong or not one.segments or one.segments != list(range(one.segments[0], count)):
            raise SystemExit(f"a viewer received {one.segments[:3]}... of {count} segments, {len(one.wrong)} wrong")
    if seen.wrong or seen.segments != list(range(count)):
        raise SystemExit(f"the viewer that reconnects received {len(seen.segments)} of {count} segments")
    written = {number: hashlib.sha256(run.segment(number)).hexdigest() for number in range(min(hashes), count)}
    if repeated or hashes != written:
        raise SystemExit(f"the events named {len(hashes)} of {len(written)} segments, {repeated} of them twice")
    return {
        "segments of the video": (count, ""),
        "dropped or repeated segments": (0, ""),
        "visits of the viewer that reconnects": (visits, ""),
        "connections of the reader of events": (connections, ""),
    }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=50, help="Viewers that watch to the end.")
    parser.add_argument("--jobs", type=int, default=200, help="Jobs that wait behind the video.")
    parser.add_argument("--seconds", type=float, default=120, help="Length of the load.")
    parser.add_argument("--model", default="pocket", help="Model of the endless video.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the moments at which viewers break off.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (address, process):
        figures = measured(args, address, process, Path(folder))
    facts = {name: getattr(args, name) for name in ("viewers", "jobs", "seconds", "model", "seed")}
    report("serve", figures, **facts)


if __name__ == "__main__":
    main()
