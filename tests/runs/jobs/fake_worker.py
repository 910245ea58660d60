"""A worker without a model: a "video" is a file with a line for each frame, which a job that is resumed continues.

The words of the prompt say what happens: a number is the number of frames; crash, terminated, killed and fail end the job at its second
frame when it runs for the first time; deaf ignores all orders; slow waits a while at every frame.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

orders: list[dict] = []
marks: dict[str, set[str]] = {"stop": set(), "cancel": set()}


def read() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        for name, ids in marks.items():
            if "run" in order:
                ids.discard(order["id"])
            elif name in order:
                ids.add(order[name])
        if "run" in order:
            orders.append(order)
    os._exit(0)


def write(id: str, **event) -> None:
    print(json.dumps({**event, "id": id}), flush=True)


def generate(order: dict) -> None:
    id, folder = order["id"], Path(order["run"])
    words = json.loads((folder / "job" / "job.json").read_text())["request"]["prompt"].split()
    frames, video = int(words[0]), folder / "frames.txt"
    write(id, event="job_began", video={"fps": 1.0, "frames": frames, "seconds": float(frames), "seed": 0})
    done = len(video.read_text().splitlines()) if video.exists() else 0
    fresh = not (folder / "tried").exists()
    (folder / "tried").touch()
    error, stopped = None, False
    while done < frames and not stopped:
        if done == 1 and fresh:
            misbehave(words)
            error = {"code": "run_failed", "message": "it failed", "param": None} if "fail" in words else None
        if error or (id in marks["cancel"] and "deaf" not in words):
            break
        time.sleep(0.05 if {"slow", "deaf"} & set(words) else 0.001)
        with open(video, "a") as file:
            file.write(f"{done}\n")
        done += 1
        write(id, event="segment_written", segment=done - 1, first=done - 1, frames=1)
        stopped = (order["stop"] or id in marks["stop"]) and "deaf" not in words and done < frames
    facts = {"stopped": stopped, "frames": done if stopped else None, "error": error}
    write(id, event="job_ended", cancelled=id in marks["cancel"], **facts)


def misbehave(words: list[str]) -> None:
    if "crash" in words:
        os.abort()
    if "terminated" in words:
        os.kill(os.getpid(), signal.SIGTERM)
    if "killed" in words:
        os.kill(os.getpid(), signal.SIGKILL)


threading.Thread(target=read, daemon=True).start()
while True:
    if orders:
        generate(orders.pop(0))
    time.sleep(0.002)
