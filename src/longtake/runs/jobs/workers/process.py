"""A worker as its supervisor sees it: a process that reads orders and reports events, both as JSON lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "longtake.runs.jobs.workers.program.main")


class WorkerProcess:
    """A running worker. command: what starts it. log: the file that its standard error goes to.

    The worker ends when the pipe of its orders ends, also when this process is killed.
    """

    def __init__(self, command: Sequence[str], log: Path):
        with open(log, "wb") as errors:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def send(self, order: dict[str, Any]) -> None:
        """Give an order; one to a dead process is lost."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what the worker reports, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):
                if isinstance(event := json.loads(line), dict):
                    yield event

    def close(self, wait: float = 5.0) -> int:
        """Let the worker end, kill it if it does not, and return its exit code (negative: the signal)."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            self._process.kill()
        code = self._process.wait()
        self._process.stdout.close()
        return code

    def kill(self) -> None:
        """Kill the process, and wait for its death."""
        self._process.kill()
        self._process.wait()
