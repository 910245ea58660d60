"""Everything that differs between Linux, macOS and Windows: locks, durable files, names, CPUs, memory, stop signals.

No other file asks for the operating system, and none uses a name that only one of them has.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path, PurePath
from types import FrameType

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal or the connection is gone; Windows has no such signal
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last is Ctrl-Break, and what a parent sends on Windows
SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))

if sys.platform == "win32":
    import ctypes
    import msvcrt

    WINDOWS = True
    KILLED = None  # no exit code says that a process was killed
    TERMINATED = None
    LOCKED_BYTE = 1 << 30  # behind the contents, which other processes must be able to read

    def lock_file(file: FileIO, wait: bool = False) -> bool:
        """Lock an open file for this process until it is closed, and say whether that worked. wait: until it is free."""
        while True:
            file.seek(LOCKED_BYTE)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
            time.sleep(0.02)

    @contextmanager
    def folder_lock(folder: Path) -> Iterator[None]:
        """Do nothing: a file that another process has open cannot be replaced here."""
        yield

    def sync(descriptor: int) -> None:
        """Wait until what was written to an open file is on the disk. The file must be open for writing."""
        os.fsync(descriptor)

    def sync_folder(folder: Path) -> None:
        """Do nothing: NTFS journals the names in a folder, and a folder cannot be opened for fsync."""

    def long_paths() -> bool:
        """Whether this machine accepts paths of more than 260 characters."""
        return bool(ctypes.windll.ntdll.RtlAreLongPathsEnabled())

    def usable_cpus() -> int:
        """Return the number of CPUs that this process may run on."""
        return os.cpu_count() or 1

    def peak_memory() -> int:
        """Return the largest resident memory of this process so far, in bytes."""

        class Counters(ctypes.Structure):
            _fields_ = [
                ("cb", ctypes.c_ulong),
                ("faults", ctypes.c_ulong),
                *((f"s{i}", ctypes.c_size_t) for i in range(8)),
            ]

        counters = Counters(cb=ctypes.sizeof(Counters))
        process = ctypes.c_void_p(ctypes.windll.kernel32.GetCurrentProcess())
        ctypes.windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb)
        return int(counters.s0)

    def limit_process(memory: int, seconds: int) -> None:
        """Do nothing: Windows has no such limits for a process on itself, so its parent ends it when its time is up."""

else:
    import fcntl
    import resource

    WINDOWS = False
    TERMINATED = -signal.SIGTERM  # that of a process that was asked to end, such as by `kill` or a service manager
    KILLED = -signal.SIGKILL  # the exit code of a process that was killed, such as by Linux when memory ran out

    def lock_file(file: FileIO, wait: bool = False) -> bool:
        """Lock an open file for this process until it is closed, and say whether that worked. wait: until it is free."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def folder_lock(folder: Path) -> Iterator[None]:
        """Wait until no other process is in a block with this folder. On a disk that has no such locks, do not wait."""
        descriptor = -1
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def sync(descriptor: int) -> None:
        """Wait until what was written to an open file is on the disk. The file must be open for writing."""
        if sys.platform == "darwin":  # where fsync leaves the data in the cache of the drive
            with suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
                return
        os.fsync(descriptor)

    def sync_folder(folder: Path) -> None:
        """Make the names in a folder survive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def long_paths() -> bool:
        """Whether this machine accepts paths of more than 260 characters."""
        return True

    def usable_cpus() -> int:
        """Return the number of CPUs that this process may run on."""
        if sys.platform == "darwin":
            return os.cpu_count() or 1
        return len(os.sched_getaffinity(0))

    def peak_memory() -> int:
        """Return the largest resident memory of this process so far, in bytes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak

    def limit_process(memory: int, seconds: int) -> None:
        """Limit the address space (bytes) and the CPU time of this process from now on, as far as the system can."""
        for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
            with suppress(ValueError, OSError):  # macOS has no limit of the address space
                resource.setrlimit(kind, (most, most))


PLAYERS = ("mpv", "vlc", "ffplay")
PATIENCE = 10.0  # seconds that a file may be open elsewhere before it is given up
RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{digit}" for name in ("com", "lpt") for digit in "123456789")}
FORBIDDEN = '<>:"|?*'
LONGEST_PATH = 259  # characters of a path on Windows, unless long paths are switched on
LONGEST_RUN_FILE = 32  # characters of the longest path inside a run directory
LONGEST_NAME = 255 - 24  # bytes of a name on other systems, without what numbers and unfinished files add to it


def sync_file(path: Path) -> None:
    """Wait until the contents of a closed file are on the disk."""
    with open(path, "r+b", buffering=0) as file:
        sync(file.fileno())


def replace_file(source: Path, target: Path) -> None:
    """Rename a file, atomically, over one that may exist.

    Windows refuses that while another program, such as a viewer, has the file open: then wait for it, up to 10 seconds.
    Raises OSError with errno EBUSY after that.
    """
    _patiently(lambda: os.replace(source, target), target)


def delete_file(path: Path) -> None:
    """Delete a file if there is one, as patiently as `replace_file`."""
    _patiently(lambda: path.unlink(missing_ok=True), path)


def _patiently(action: Callable[[], None], path: Path) -> None:
    until, pause = time.monotonic() + PATIENCE, 0.005
    while True:
        try:
            return action()
        except PermissionError as error:
            if not WINDOWS or not path.exists():
                raise
            if time.monotonic() > until:
                problem = "another program, or this one, has this file open: close it there, then start the same command again"
                raise OSError(errno.EBUSY, problem, str(path)) from error
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def problem_of_name(path: PurePath, windows: bool = WINDOWS) -> str:
    """Return why a folder or file cannot be created at a path, and what to choose instead; "" where it can."""
    if not windows:
        return _problem_of_posix_name(path)
    if path.drive and not path.root:
        return f"Windows reads {path.drive!r} in {str(path)!r} as a drive: leave the colon out, or write the whole path"
    for name in path.parts[1 if path.anchor else 0 :]:
        if bad := [each for each in name if each in FORBIDDEN or ord(each) < 32]:
            return f"Windows allows no {bad[0]!r} in a file name, as in {name!r}: choose another name"
        if name.split(".")[0].rstrip().lower() in RESERVED:
            return f"Windows keeps the name {name!r} for a device: choose another name, such as 'my-{name}'"
        if name != name.rstrip(". ") and name != "..":
            return f"Windows drops the dot or space at the end of {name!r}: leave it out"
    length = len(os.path.abspath(path)) + LONGEST_RUN_FILE
    if length > LONGEST_PATH and not long_paths():
        return (
            f"with the names of its files this path has {length} characters, and Windows allows {LONGEST_PATH}: choose a "
            "shorter one, or switch on long paths (LongPathsEnabled in the registry)"
        )
    return ""


def _problem_of_posix_name(path: PurePath) -> str:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="replace").decode()
        return f"{shown} is not UTF-8 text, or the locale is not UTF-8 (set LC_ALL=C.UTF-8): choose another name"
    if (length := len(path.name.encode())) > LONGEST_NAME:
        return f"the name {path.name[:24]}... has {length} bytes, and {LONGEST_NAME} are possible: choose a shorter one"
    return ""


def end_of(code: int) -> str:
    """Return how a child process ended: the name of the signal that ended it, else its exit code."""
    if -signal.NSIG < code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}" if code < 1 << 16 else f"exit code {code:#x}"  # an exception's code on Windows


def stop_command(pid: str) -> str:
    """Return the shell command that ends a process."""
    return f"taskkill /F /PID {pid}" if WINDOWS else f"kill {pid}"


def cache_folder() -> Path:
    """Return the folder for files of longtake that may be removed at any time, where the system keeps those of a user."""
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        asked = os.environ.get("XDG_CACHE_HOME", "")
        home = asked if os.path.isabs(asked) else Path.home() / ".cache"
    return Path(home) / "longtake"


def player_command() -> list[str] | None:
    """Return the command that opens a video here; None on a machine without a screen or a player."""
    if sys.platform == "darwin":
        return ["open"]
    if sys.platform == "win32":
        return ["start", ""]
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    return next(([name] for name in ("xdg-open", *PLAYERS) if shutil.which(name)), None)


class Stopped(KeyboardInterrupt):
    """The request to stop of a user (Ctrl-C), the system (SIGTERM) or a lost terminal (SIGHUP).

    code: the exit code by convention, 130, 143 or 129.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop this process: all, but for a hangup that `nohup` made it ignore."""
    ignored = HANGUP is not None and signal.getsignal(HANGUP) is signal.SIG_IGN
    return tuple(each for each in SIGNALS if not (ignored and each is HANGUP))


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a stop signal: raise `Stopped`, and let a second one end the process at once.

    Further hangups are ignored, because a lost terminal often sends more than one.
    """
    for each in stop_signals():
        signal.signal(each, signal.SIG_IGN if each is HANGUP else signal.SIG_DFL)
    raise Stopped(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` inside the block at the first signal of `stop_signals`; a second one ends the process at once.

    Only the main thread may enter it.
    """
    before = {each: signal.signal(each, stop) for each in stop_signals()}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
