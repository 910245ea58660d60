"""The Windows half of core/platform.py, run where Windows is imitated; and the names that Windows cannot have."""

import os
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from longtake.core.platform import problem_of_name

ROOT = Path(__file__).parents[2]
CODE = """
import os, sys, threading, time
from pathlib import Path
from tests import windows_like
windows_like.apply(patience=1.0)
from longtake.core import platform as p
os.chdir(sys.argv[1])
assert p.WINDOWS and p.peak_memory() == 123 << 20 and p.usable_cpus() >= 1 and not p.long_paths()
assert [each.name for each in p.SIGNALS] == ["SIGINT", "SIGTERM", "SIGQUIT"] and p.stop_command("7") == "taskkill /F /PID 7"
p.sync_folder(Path())

new, old = Path("new"), Path("old")
old.write_bytes(b"old"), new.write_bytes(b"new")
p.sync_file(new)
viewer = open("old", "rb")
threading.Timer(0.3, viewer.close).start()
begun = time.monotonic()
p.replace_file(new, old)
assert old.read_bytes() == b"new" and time.monotonic() - begun > 0.2

with open("old", "rb"):
    try:
        p.delete_file(old)
    except OSError as error:
        assert "has this file open" in str(error), error
    else:
        raise SystemExit("it was deleted")
p.delete_file(old), p.delete_file(old)

with open("LOCK", "a+b", buffering=0) as file:
    assert p.lock_file(file)
    pid = __import__("subprocess").run([sys.executable, "-c", sys.argv[2]], check=False)
    assert pid.returncode == 3, pid.returncode
print("done")
"""
OTHER = """
import fcntl
with open("LOCK", "a+b", buffering=0) as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 << 30)
    except OSError:
        raise SystemExit(3)
"""


@pytest.mark.long
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="Windows is imitated with what Linux tells in /proc")
def test_files_locks_and_signals_like_on_windows(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path, OTHER],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize(
    "path",
    [
        "con",
        "out/NUL",
        "aux.mp4",
        "Com1.x/run",
        "lpt9",
        "a:b",
        "C:run",
        "a|b",
        'say "hi"',
        "what?",
        "x.",
        "x ",
        "a. /b",
        "a\x07",
    ],
)
def test_names_that_windows_cannot_have_are_refused(path):
    assert problem_of_name(PureWindowsPath(path), windows=True)
    assert problem_of_name(PureWindowsPath(path), windows=False) == ""


@pytest.mark.parametrize(
    "path", ["C:\\videos\\run", "out/a-red-ball-0", "..\\run", ".", "console", "com10", "ein Ünding", "a.b.c"]
)
def test_other_names_are_accepted(path):
    assert problem_of_name(PureWindowsPath(path), windows=True) == ""
