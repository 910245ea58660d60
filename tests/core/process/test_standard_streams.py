"""What a program prints: nothing that happens to standard output or error ends it, and every terminal can show it."""

import os
import subprocess
import sys

import pytest

START = "import sys; from longtake.core.process.standard_streams import protect_streams; streams = protect_streams()\n"
MANY = START + "for i in range(20000): print('line', i)\nlost = streams.lost_output\n"


def printed(code: str, **options) -> subprocess.CompletedProcess:
    """Run Python code; its standard output and error are captured unless `options` say otherwise."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([sys.executable, "-c", code], check=False, **pipes)


def test_a_reader_that_leaves_does_not_end_the_program():
    reader, writer = os.pipe()
    os.close(reader)
    done = printed(MANY + "print(type(lost).__name__, file=sys.stderr)", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr.strip()) == (0, b"BrokenPipeError")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_does_not_end_the_program_and_is_said_once(unbuffered):
    with open("/dev/full", "wb") as full:
        done = printed(MANY + "sys.exit(lost.errno)", stdout=full, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 28
    assert done.stderr.decode().splitlines() == ["note: standard output cannot be written (No space left on device)"]


def test_neither_does_one_of_both_streams():
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        code = MANY + "print('error', file=sys.stderr); sys.exit(7)"
        assert printed(code, stdout=full, stderr=full).returncode == 7


def test_a_closed_descriptor_is_not_given_to_the_next_file(tmp_path):
    code = START + f"file = open({str(tmp_path / 'f')!r}, 'w'); print('lost'); sys.exit(file.fileno())"
    closed = ["sh", "-c", f'exec "{sys.executable}" -c "$1" <&- >&- 2>&-', "sh", code]
    assert subprocess.run(closed, check=False).returncode > 2
    assert (tmp_path / "f").read_text() == ""


def test_a_pipe_that_another_process_made_non_blocking_gets_everything():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen([sys.executable, "-c", MANY + "sys.exit(lost is not None)"], stdout=writer)
    os.close(writer)
    with open(reader, "rb") as lines:
        assert len(lines.readlines()) == 20000
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "a cafe, ?? - 3x4 ... cut:"),
        ("latin-1", "a café, ?? · 3×4 ... cut:"),
        ("utf-8", "a café, 日本 · 3×4 … ✂"),
    ],
)
def test_a_terminal_without_a_character_gets_another(encoding, shown):
    text = "a café, 日本 · 3×4 … ✂"
    code = START + f"print({text!r}); print({text!r}, file=sys.stderr)"
    done = printed(code, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert [done.returncode, done.stdout.decode(encoding).strip()] == [0, shown]
    assert done.stderr.decode(encoding).strip() == shown


def test_streams_of_another_program_are_left_in_place(capsys):
    from longtake.core.process.standard_streams import protect_streams

    before = sys.stdout, sys.stderr
    assert protect_streams().lost_output is None
    assert (sys.stdout, sys.stderr) == before
