"""How a generated input is judged: the command runs in this process, watched for time, memory, writes and the network.

Every input is made from its name alone, so a failing one can be made again.
"""

import contextlib
import io
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.cli import run

SECONDS, BYTES = 20, 4 << 30
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Case:
    """A generated input. make: (folder, rng) -> the words of a command line, with `{out}` for the output.

    code: the exit code that it must end in; None where a changed bit may do no harm: 0, or a refusal with 1 or 2; -1:
    1 or 2.
    says: a part of what it must say on stderr or stdout. whole: what the output must hold if it ends in 0, checked by a
    function (folder of the output) that raises AssertionError.
    """

    name: str
    make: Callable[[Path, random.Random], list[Any]]
    code: int | None = 2
    says: str = ""
    whole: Callable[[Path], None] = lambda out: None

    def __str__(self) -> str:
        return self.name


class _Late(BaseException):
    """The time is up; no `except Exception` catches it."""


class _Watch:
    """Notes every file that Python opens for writing, makes, moves or removes, and refuses connections."""

    def __init__(self) -> None:
        self.allowed: Path | None = None  # the only folder that may change; None: nothing is watched
        self.wrong: list[str] = []
        sys.addaudithook(self.saw)

    def saw(self, event: str, args: tuple) -> None:
        """Note what an event of the interpreter changes (see the audit events of Python)."""
        if self.allowed is None:
            return
        if event in ("socket.connect", "socket.getaddrinfo"):
            self.wrong.append(f"{event} {args[1:]}")
            raise OSError("the tests have no network")
        if event == "open" and isinstance(args[2], int) and args[2] & WRITING:
            self._changes(args[0])
        elif event == "os.mkdir":
            Path(os.fsdecode(args[0])).is_dir() or self._changes(
                args[0]
            )  # asking for a folder that is there changes nothing
        elif event in ("os.remove", "os.rmdir", "os.truncate", "os.symlink"):
            self._changes(args[0] if event != "os.symlink" else args[1])
        elif event == "os.rename":
            self._changes(args[0]), self._changes(args[1])

    def _changes(self, path: Any) -> None:
        if isinstance(path, int) or self.allowed is None:
            return
        place = Path(os.path.abspath(os.fsdecode(path)))
        cache = "__pycache__" in place.parts or any(part.startswith("torchinductor_") for part in place.parts)
        if not (place.is_relative_to(self.allowed) or place == Path(os.devnull) or cache):
            self.wrong.append(str(place))


WATCH = _Watch()


def judge(case: Case, folder: Path) -> None:
    """Make the input in an empty folder, run its command, and raise AssertionError unless it ends as it should."""
    inputs, out = folder / "in", folder / "out"
    inputs.mkdir()
    words = [str(word).replace("{out}", str(out)) for word in case.make(inputs, random.Random(case.name))]
    before, most = tree(inputs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    code, out_text, err_text, seconds = _call(words, out)
    text = f"longtake {' '.join(words)}\nexit {code} after {seconds:.1f} s\n{out_text[-2000:]}\n{err_text[-2000:]}"
    assert seconds < SECONDS, text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - most < BYTES, text
    assert not WATCH.wrong and tree(inputs) == before, f"{WATCH.wrong} changed\n{text}"
    assert "Traceback" not in err_text, text
    assert code in {None: (0, 1, 2), -1: (1, 2)}.get(case.code, (case.code,)), text
    if code == 2:
        sentence(err_text, text)
    if code == 0:
        case.whole(out)
    assert case.says.lower() in (err_text + out_text).lower(), f"{case.says!r} is not out_text\n{text}"


def sentence(out_text: str, text: str) -> None:
    """Raise AssertionError unless a refusal is one line for a person, at most with an indented list behind it."""
    first, *rest = out_text.strip().splitlines() or [""]
    assert first.startswith("longtake: ") and 20 < len(first) < 2000, text
    assert all(line.startswith("  ") for line in rest), text


def tree(folder: Path) -> dict[str, tuple]:
    """What a folder holds: kind, size and time of change of every entry."""
    stats = {path: path.lstat() for path in sorted(folder.rglob("*"))}
    return {str(path): (s.st_mode, 0 if path.is_dir() else s.st_size, s.st_mtime_ns) for path, s in stats.items()}


def _call(words: list[str], out: Path) -> tuple[int, str, str, float]:
    """Run a command; return its exit code, what it printed, and the seconds that it took."""
    out_text, err_text, start = io.StringIO(), io.StringIO(), time.monotonic()
    with _alarm(), contextlib.redirect_stdout(out_text), contextlib.redirect_stderr(err_text):
        WATCH.allowed, WATCH.wrong = out, []
        try:
            code = run(words)
        except _Late:
            code = 124
        except Exception as error:
            import traceback

            code = 70
            err_text.write("".join(traceback.format_exception(error)))
        finally:
            WATCH.allowed = None
    return code, out_text.getvalue(), err_text.getvalue(), time.monotonic() - start


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------- bad bytes
def flipped(data: bytes, rng: random.Random, count: int = 1) -> bytes:
    """Return the bytes with some bits flipped."""
    found = bytearray(data)
    for _ in range(count):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Return the beginning of the bytes."""
    return data[: rng.randrange(len(data))]


IMPOSTORS = {
    "empty": b"",
    "text": b"hello\n",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "zip": b"PK\x03\x04" + b"\x00" * 60,
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "gguf": b"GGUF\x03\x00\x00\x00" + b"\xff" * 24,
    "zeros": b"\x00" * 4096,
    "ones": b"\xff" * 4096,
    "nul": b"\x00",
}


def special(path: Path, kind: str) -> Path:
    """Make a thing that is no ordinary file: a folder, a pipe, a device, a link to itself or to nothing."""
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nothing")
    return path


SPECIAL = ("folder", "fifo", "device", "loop", "dangling", "missing")
