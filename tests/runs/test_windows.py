"""A run on a Python that has what Windows has: made, stopped, killed and resumed, it becomes the bytes of a whole run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs.toy_runs import content

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="Windows is imitated with what Linux tells in /proc"),
]

ROOT = Path(__file__).parents[2]
VIDEO = ["--seconds", "4", "--seed", "3", "--steps", "6", "--threads", "1"]


def started(*words: str, like_windows: bool = True) -> subprocess.Popen:
    """Start a command of longtake, in its own process."""
    module = "tests.windows_like" if like_windows else "longtake"
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )


def finished(process: subprocess.Popen) -> str:
    """Wait for a process that must succeed, and return what it printed."""
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def wait_for_segments(folder: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until a run has so many segments."""
    until = time.monotonic() + 200
    while len(list((folder / "media").glob("s*.m4s"))) < count:
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """Return the hashes of a run on this system that nobody stops."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finished(started("generate", "a red ball bounces", *VIDEO, "--output", folder, like_windows=False))
    return content(folder)


def test_every_module_is_imported_and_a_run_is_whole(tmp_path, whole):
    printed = finished(started("generate", "a red ball bounces", *VIDEO, "--output", tmp_path / "run"))
    assert int(printed.split(" modules imported like on Windows")[0].split()[-1]) > 400
    assert content(tmp_path / "run") == whole


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGINT, signal.SIGQUIT], ids=["killed", "Ctrl-C", "Ctrl-Break"]
)
def test_a_run_is_stopped_and_resumed_to_the_same_bytes(tmp_path, whole, number):
    folder = tmp_path / "run"
    process = started("generate", "a red ball bounces", *VIDEO, "--output", folder)
    wait_for_segments(folder, 1, process)
    process.send_signal(number)  # the imitation takes SIGQUIT for the SIGBREAK of Windows
    process.communicate(timeout=100)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    finished(started("resume", folder))
    assert content(folder) == whole
    finished(started("verify", folder))


@pytest.mark.parametrize(
    "name, why",
    [
        ("con", "for a device"),
        ("nul.mp4", "for a device"),
        ("a b. ", "at the end"),
        ("a?b", "allows no '?'"),
        ("x" * 240, "too|characters"),
    ],
)
def test_names_that_windows_cannot_have_are_refused(tmp_path, name, why):
    process = started("generate", "a red ball", *VIDEO, "--output", tmp_path / "out" / name)
    printed, _ = process.communicate(timeout=100)
    assert process.returncode == 2 and any(each in printed for each in why.split("|")), printed
    assert not (tmp_path / "out").exists()
