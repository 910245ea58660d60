"""A Python that has what Windows has: `apply()` takes away the rest, and refuses what Windows refuses.

Run as a program it applies that, imports every module of longtake, and runs a command of longtake, or tests: after the
word `pytest` come the arguments of pytest.

It takes away the modules and names that Windows lacks (by the stubs of mypy), adds a `msvcrt` and a `ctypes.windll`, and
lets longtake alone believe that `sys.platform` is win32. It refuses to replace, move or delete a file that this process
has open or mapped, to flush a file that is open for reading alone, and to open a folder.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pkgutil
import platform
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from tests.platforms import elsewhere, is_missing

HEAVY = """
    torch torch.distributed torch.utils.data torch._dynamo av numpy PIL.Image PIL.ImageDraw PIL.ImageFont rich.console
    rich.progress rich.live rich.table cyclopts safetensors.torch tokenizers gguf ftfy hashlib tempfile subprocess
    multiprocessing.spawn multiprocessing.popen_spawn_posix concurrent.futures.process webbrowser getpass asyncio
    logging.handlers platformdirs pdb zipfile tarfile
"""  # what decides at its import what the system has; the real Windows has other files of them
MODULES = ["fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline"]
TRIMMED = ["os", "signal", "time", "select", "socket"]
IN_USE = "The process cannot access the file because it is being used by another process"


def apply(trim: bool = True, patience: float = 10.0) -> None:
    """Make this process like Windows, and import `longtake.core.platform` for it. Once, before longtake is imported.

    trim: take away single names of modules too, which pytest and the tests themselves use. patience: seconds to wait for a file.
    """
    assert not any(name.split(".")[0] == "longtake" for name in sys.modules), (
        "apply() comes before any import of longtake"
    )
    for name in HEAVY.split():
        importlib.import_module(name)
    import fcntl

    platform.platform()  # which is remembered
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # type: ignore[misc, assignment]
    sys.modules["msvcrt"] = _msvcrt(fcntl)
    ctypes.windll = _windll()  # type: ignore[attr-defined]
    _refuse(fcntl)
    for name in MODULES:
        assert is_missing(name, "win32") or name in ("tty", "pty", "readline"), name
        sys.modules[name] = None  # type: ignore[assignment]
    for name in TRIMMED if trim else ():
        module = sys.modules[name]
        for each in elsewhere(name, "win32"):
            if hasattr(module, each):
                delattr(module, each)
    signal.SIGBREAK, signal.CTRL_C_EVENT, signal.CTRL_BREAK_EVENT = signal.Signals(3), 0, 1  # type: ignore[attr-defined, misc, assignment]
    real, sys.platform = sys.platform, "win32"  # type: ignore[misc]
    longtake_platform: Any = importlib.import_module("longtake.core.platform")
    longtake_platform.PATIENCE = patience
    sys.platform = real  # type: ignore[misc]


def import_all() -> int:
    """Import every module of longtake, and return how many there are."""
    import longtake

    names = [each.name for each in pkgutil.walk_packages(longtake.__path__, "longtake.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    return len(names)


def _msvcrt(fcntl: Any) -> ModuleType:
    """A `msvcrt` whose locks are those of POSIX: of a process, on a range of bytes."""
    found = ModuleType("msvcrt")

    def locking(descriptor: int, mode: int, count: int) -> None:
        fcntl.lockf(descriptor, {0: fcntl.LOCK_UN, 2: fcntl.LOCK_EX | fcntl.LOCK_NB}[mode], count, 0, os.SEEK_CUR)

    found.LK_UNLCK, found.LK_LOCK, found.LK_NBLCK, found.locking = 0, 1, 2, locking  # type: ignore[attr-defined]
    return found


def _windll() -> SimpleNamespace:
    def memory(process: Any, counters: Any, size: Any) -> int:
        counters._obj.s0 = 123 << 20  # the second size of the structure is the peak
        return 1

    return SimpleNamespace(
        kernel32=SimpleNamespace(GetCurrentProcess=lambda: -1),
        psapi=SimpleNamespace(GetProcessMemoryInfo=memory),
        ntdll=SimpleNamespace(RtlAreLongPathsEnabled=lambda: 0),
    )


def _open_here(path: Any) -> bool:
    """Whether this process has a file, or a file below a folder, open or mapped."""
    wanted = os.path.realpath(os.path.abspath(os.fspath(path)))
    held = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        held |= {line.split(maxsplit=5)[5].strip() for line in maps if len(line.split(maxsplit=5)) == 6}
    return any(each == wanted or each.startswith(wanted + "/") for each in held)


def _refuse(fcntl: Any) -> None:
    """Let the functions of `os` refuse what those of Windows refuse."""

    def unless_open(function: Any) -> Any:
        def checked(*paths: Any, **options: Any) -> Any:
            for path in paths:
                if isinstance(path, str | os.PathLike) and _open_here(path):
                    raise PermissionError(13, IN_USE, os.fspath(path))
            return function(*paths, **options)

        return checked

    for name in ("replace", "rename", "unlink", "remove", "rmdir"):
        setattr(os, name, unless_open(getattr(os, name)))
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    shutil.disk_usage = lambda path, statvfs=os.statvfs: _usage(statvfs(path))  # type: ignore[assignment, misc]
    fsync, opened, readable = os.fsync, os.open, os.O_RDONLY

    def checked_fsync(file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        if fcntl.fcntl(number, fcntl.F_GETFL) & 3 == readable:
            raise OSError(9, "Bad file descriptor")
        fsync(number)

    def checked_open(path: Any, *rest: Any, **options: Any) -> int:
        if isinstance(path, str | os.PathLike) and Path(path).is_dir():
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return opened(path, *rest, **options)

    os.fsync, os.open = checked_fsync, checked_open  # type: ignore[misc, assignment, attr-defined]


class Usage(NamedTuple):
    """What shutil.disk_usage returns."""

    total: int
    used: int
    free: int


def _usage(found: Any) -> Usage:
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    return Usage(total, total - free, free)


if __name__ == "__main__":
    tests = sys.argv[1:2] == ["pytest"]
    apply(trim=not tests, patience=0.2 if tests else 10.0)
    print(f"{import_all()} modules imported like on Windows", file=sys.stderr)
    if tests:
        import pytest

        raise SystemExit(pytest.main(sys.argv[2:]))
    from longtake.cli import main

    main(sys.argv[1:])
