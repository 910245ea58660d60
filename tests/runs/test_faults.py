"""A full disk, an encoder that fails, Ctrl-C and SIGTERM leave a run that can be resumed, and one clear sentence."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import av
import pytest

from longtake.cli import main
from longtake.cli.generation import generate_videos
from longtake.core.platform import Stopped, stoppable
from longtake.media import video_io as media
from longtake.runs import RunError, SegmentWritten, SnapshotSaved, publish, record, verify
from longtake.runs.files import durable as disk
from longtake.runs.files import journal as journals
from tests.runs.toy_runs import clock, content, counted, forked, waited


class Disk:
    """A disk with room for `room` bytes, which then fails with an error number."""

    def __init__(self, room: int, error: int = errno.ENOSPC):
        self.room, self.error, self.put = room, error, disk.write_all

    def __call__(self, file, data):
        raw = bytes(data)
        self.put(file, raw[: max(0, self.room)])
        self.room -= len(raw)
        if self.room < 0:
            raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def whole(tmp_path_factory):
    """Return a video, the folder of its undisturbed run, and the number of bytes written for it."""
    folder, video = tmp_path_factory.mktemp("whole"), clock(segment=12, frames=61)
    meter = Disk(1 << 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "write_all", meter)
        list(record(video.rollout(), video.manifest(), folder))
    return video, folder, (1 << 40) - meter.room


def test_a_full_disk_at_any_byte(tmp_path, whole, monkeypatch):
    video, folder, total = whole
    for i, room in enumerate(range(0, total, total // 40)):
        with monkeypatch.context() as patch:
            patch.setattr(disk, "write_all", Disk(room))
            with pytest.raises(
                RunError, match=r"the disk is full \(.*\): free some space and resume the run with `longtake res"
            ):
                list(record(video.rollout(), video.manifest(), tmp_path / str(i)))
        list(record(video.rollout(), video.manifest(), tmp_path / str(i)))
        assert counted(tmp_path / str(i) / "video.mp4") == list(range(61))
        assert content(tmp_path / str(i)) == content(folder)


def test_a_disk_that_fills_up_again_and_again(tmp_path, whole, monkeypatch):
    video, folder, total = whole
    for _ in range(100):
        with monkeypatch.context() as patch:
            patch.setattr(disk, "write_all", Disk(total // 2))
            try:
                list(record(video.rollout(), video.manifest(), tmp_path))
                break
            except RunError as error:
                assert "the disk is full" in str(error)
    assert (tmp_path / "video.mp4").read_bytes() == (folder / "video.mp4").read_bytes()


def test_no_incomplete_file_is_left(tmp_path, whole, monkeypatch):
    video, _, total = whole
    monkeypatch.setattr(disk, "write_all", Disk(total // 2))
    with pytest.raises(RunError):
        list(record(video.rollout(), video.manifest(), tmp_path))
    assert not list(tmp_path.rglob("*.tmp"))
    for entry in journals.segments(tmp_path / "journal.jsonl"):
        assert disk.file_digest(tmp_path / "media" / entry.file) == entry.digest


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "cannot be written .* choose another folder"),
        (errno.EIO, "failed .Input/output error.: check that"),
    ],
)
def test_other_disk_errors(tmp_path, whole, monkeypatch, number, words):
    video, _, _ = whole
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_all", Disk(3000, number))
        with pytest.raises(RunError, match=words):
            list(record(video.rollout(), video.manifest(), tmp_path))


@pytest.mark.parametrize("left", [0, 4000])
def test_no_room_for_the_joined_video(tmp_path, whole, monkeypatch, left):
    """The space is checked before, and the muxer may still run out of it."""
    video, folder, _ = whole

    def join(init, segments, path, *more):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if left:
            patch.setattr(media, "join", join)
        else:
            usage = publish.shutil.disk_usage(tmp_path)._replace(free=10)
            patch.setattr(publish.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(RunError, match=r"the disk is full \(writing video\.mp4\)"):
            list(record(video.rollout(), video.manifest(), tmp_path))
    assert not list(tmp_path.glob("video*"))
    list(record(video.rollout(), video.manifest(), tmp_path))
    assert (tmp_path / "video.mp4").read_bytes() == (folder / "video.mp4").read_bytes()


def test_a_real_small_disk(tmp_path, whole):
    video, folder, _ = whole
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        with pytest.raises(RunError, match="the disk is full"):
            list(record(video.rollout(), video.manifest(), tmp_path / "run"))
        before = len(list(journals.segments(tmp_path / "run" / "journal.jsonl")))
        subprocess.run(["mount", "-o", "remount,size=4m", tmp_path], check=True)
        list(record(video.rollout(), video.manifest(), tmp_path / "run"))
        assert before > 0 and content(tmp_path / "run") == content(folder)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_an_encoder_that_fails(tmp_path, whole, monkeypatch):
    video, folder, _ = whole
    opened = av.open

    def fail(file, mode, **options):
        if options.get("options", {}).get("fragment_index") == "3":
            raise av.error.ExternalError(-542398533, "Generic error in an external library")
        return opened(file, mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr(av, "open", fail)
        with pytest.raises(
            RunError, match=r"writing segment 2 .* failed: the H\.264 encoder failed at frame 24.*resume"
        ):
            list(record(video.rollout(), video.manifest(), tmp_path))
    assert len(list(journals.segments(tmp_path / "journal.jsonl"))) == 2
    list(record(video.rollout(), video.manifest(), tmp_path))
    assert content(tmp_path) == content(folder)


# ---------------------------------------------------------------- signals
STOPS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])


@STOPS
def test_a_signal_stops_a_run_that_can_then_be_resumed(tmp_path, number, code):
    video, ready = clock(frames=None), tmp_path / "ready"

    def child():
        try:
            with stoppable(), closing(record(video.rollout(), video.manifest(), tmp_path / "r", finish=True)) as events:
                for event in events:
                    if isinstance(event, SnapshotSaved):
                        ready.touch()
        except Stopped as stop:
            raise SystemExit(stop.code) from None

    pid = forked(child)
    while not ready.exists():
        time.sleep(0.005)
    os.kill(pid, number)
    assert waited(pid) == code
    shown = counted(tmp_path / "r" / "video.mp4")
    assert shown == list(range(len(shown))) and len(shown) % 24 == 0
    more = record(video.rollout(), video.manifest(), tmp_path / "r")
    opened = next(more)
    assert opened.frames > 0 and opened.segments * 24 == len(shown)
    next(event for event in more if isinstance(event, SegmentWritten) and not event.repeated)
    more.close()


def signalled(folder, number, monkeypatch, early: bool) -> tuple[int, str]:
    """Stop `longtake generate --endless` before it records, or while it does; return its exit code and what it printed."""
    out = folder.with_suffix(".txt")

    def child():
        with open(out, "w") as file:
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
            sys.stdout = sys.stderr = file
            if early:
                monkeypatch.setattr(generate_videos, "calibrate", lambda rollout: os.kill(os.getpid(), number))
            main(["generate", "a", "--model", "clock", "--endless", "-o", str(folder), "--steps", "2"])

    pid = forked(child)
    while not early and not list(folder.glob("snapshots/*.json")):
        time.sleep(0.005)
    if not early:
        os.kill(pid, number)
    return waited(pid), out.read_text()


@STOPS
def test_a_signal_before_the_run_starts_ends_it_with_the_code_of_the_signal(tmp_path, number, code, monkeypatch):
    assert signalled(tmp_path / "r", number, monkeypatch, early=True)[0] == code
    assert not (tmp_path / "r").exists()


@STOPS
def test_all_signals_say_and_leave_the_same(tmp_path, number, code, monkeypatch):
    ended, said = signalled(tmp_path / "r", number, monkeypatch, early=False)
    assert ended == code and f"Continue with: longtake resume {tmp_path / 'r'}" in said
    assert f"the video so far: {tmp_path / 'r' / 'video.mp4'}" in said and "Traceback" not in said
    assert all(check.passed for check in verify(tmp_path / "r"))
    assert {"video.mp4", "sheet.png", "index.m3u8"} <= {path.name for path in (tmp_path / "r").iterdir()}


def test_a_second_signal_ends_the_process_at_once():
    def child():
        with stoppable():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except Stopped:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)

    assert waited(forked(child)) == -signal.SIGTERM


def test_a_lost_terminal_may_hang_up_more_than_once():
    def child():
        with stoppable():
            try:
                os.kill(os.getpid(), signal.SIGHUP)
                time.sleep(5)
            except Stopped as stop:
                os.kill(os.getpid(), signal.SIGHUP)
                raise SystemExit(stop.code) from None

    assert waited(forked(child)) == 129


def test_under_nohup_a_lost_terminal_stops_nothing():
    def child():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)

    assert waited(forked(child)) == 0


def test_the_old_signal_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stoppable():
        assert signal.getsignal(signal.SIGINT) not in before
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_in_the_middle_of_a_write(tmp_path, whole, monkeypatch):
    video, folder, total = whole
    for room in range(500, total, total // 8):
        stop = Disk(room)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "write_all", lambda file, data, stop=stop: _interrupt(stop, file, data))
            with pytest.raises(KeyboardInterrupt):
                list(record(video.rollout(), video.manifest(), tmp_path / str(room)))
        list(record(video.rollout(), video.manifest(), tmp_path / str(room)))
        assert (tmp_path / str(room) / "video.mp4").read_bytes() == (folder / "video.mp4").read_bytes()


def _interrupt(stop: Disk, file, data) -> None:
    try:
        stop(file, data)
    except OSError:
        raise KeyboardInterrupt from None
