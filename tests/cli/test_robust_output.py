"""What happens to the terminal, the pipe or the memory of a command while it works: it goes on, or can be resumed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.cli import run
from longtake.cli.registry import COMMANDS
from longtake.models.toy.clock import ClockDecoder, ClockSession
from longtake.models.toy.null_text_encoder import NullTextEncoder

GENERATE = ["generate", "a réd ball ✂", "--model", "clock", "--threads", "1", "--seconds", "3"]
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


def started(*words: str | Path, **options) -> subprocess.Popen:
    """Start the command line in a new process."""
    return subprocess.Popen([sys.executable, "-m", "longtake", *map(str, words)], **options)


def finished(*words: str | Path, **options) -> tuple[int, str]:
    """Run the command line in a new process; return its exit code and what it wrote to standard error."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | options
    process = started(*words, **pipes)
    return process.wait(), process.communicate()[1].decode()


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    """The video that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "r"
    assert run([*GENERATE, "-o", str(out)]) == 0
    return (out / "video.mp4").read_bytes()


@pytest.mark.parametrize("kind", ["json", pytest.param("text", marks=pytest.mark.long)])
def test_a_reader_that_leaves_does_not_stop_a_video(tmp_path, video, kind):
    process = started(
        *GENERATE, "--format", kind, "-o", tmp_path / "r", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None and process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 0
    assert (tmp_path / "r" / "video.mp4").read_bytes() == video


@FULL
def test_a_full_disk_of_its_log_does_not_stop_a_video(tmp_path, video):
    with open("/dev/full", "wb") as full:
        code, error = finished(*GENERATE, "-o", tmp_path / "r", stdout=full)
    assert code == 0 and "standard output cannot be written (No space left on device)" in error
    assert (tmp_path / "r" / "video.mp4").read_bytes() == video


@FULL
def test_a_command_that_only_prints_fails_where_it_cannot():
    with open("/dev/full", "wb") as full:
        code, error = finished("plan", "sliding", stdout=full)
    assert code == 1 and "what this command printed is incomplete" in error and "Traceback" not in error


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.long)])
def test_a_terminal_without_unicode_is_shown_replacements(tmp_path, video, encoding):
    bare = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}
    process = started(*GENERATE, "-o", tmp_path, env=bare, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    shown = process.communicate()[0].decode(encoding)
    assert process.returncode == 0, shown
    assert {"ascii": "a red ball cut:", "latin-1": "a réd ball cut:"}[encoding] in shown
    assert (tmp_path / "video.mp4").read_bytes() == video
    others = [["prompts", str(tmp_path)], ["plan", "async"], ["models"], ["generate", "--help"], ["--help"], ["train"]]
    code = f"from longtake.cli import protect_streams, run; protect_streams(); assert not any(map(run, {others!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=False, env=bare, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_text_that_is_no_unicode_is_refused_in_one_sentence():
    code, error = finished(
        "generate", os.fsdecode(b"a caf\xe9"), "--model", "clock", env={**os.environ, "PYTHONUTF8": "1"}
    )
    assert code == 2 and "is not UTF-8" in error and "Traceback" not in error


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no hangup")
def test_a_lost_terminal_leaves_a_run_that_can_be_resumed(tmp_path):
    """The terminal is a pseudo-terminal whose other end is closed in the middle of the run, as an ssh that breaks off."""
    pty = pytest.importorskip("pty")
    out = tmp_path / "r"
    words = [sys.executable, "-m", "longtake", "generate", "a", "--model", "clock", "--endless", "-o", str(out)]
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, words)
    while not list(out.glob("snapshots/*.json")):
        os.read(terminal, 1 << 16)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    assert (out / "video.mp4").exists()
    assert run(["verify", str(out)]) == 0


def too_little(after: int, real):
    """The function `real`, out of memory from its call number `after` on."""
    calls = []

    def short(*arguments, **keywords):
        calls.append(1)
        if len(calls) > after:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*arguments, **keywords)

    return short


@pytest.mark.parametrize(("owner", "part"), [(ClockSession, "__call__"), (ClockDecoder, "push")])
def test_too_little_memory_in_the_middle_of_a_run_says_what_helps(tmp_path, capsys, monkeypatch, owner, part):
    longer = [*GENERATE[:-1], "9"]
    assert run([*longer, "-o", str(tmp_path / "whole")]) == 0
    out, calls = tmp_path / "r", {"__call__": 10, "push": 1}
    with monkeypatch.context() as patch:
        patch.setattr(owner, part, too_little(calls[part], getattr(owner, part)))
        assert run([*longer, "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert f"longtake resume {out}" in error and "--offload blocks" in error and "--fp8" in error
    assert run(["resume", str(out)]) == 0
    assert (out / "video.mp4").read_bytes() == (tmp_path / "whole" / "video.mp4").read_bytes()


def test_too_little_memory_for_the_prompts_leaves_nothing_behind(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(NullTextEncoder, "encode", too_little(0, NullTextEncoder.encode))
    assert run([*GENERATE, "-o", str(tmp_path / "r")]) == 1
    assert "needs more memory than there is" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_every_command_that_only_prints_says_so():
    writing = {name for name, command in COMMANDS.items() if command.writes}
    assert {"generate", "extend", "resume", "train", "data prepare"} <= writing
    assert not {"models", "plan", "inspect", "verify", "doctor"} & writing
