"""A full disk, an encoder that fails, Ctrl-C and SIGTERM leave a reel that can be resumed, and one clear sentence."""

import errno
import os
import signal
import subprocess
import time
from contextlib import closing

import av
import pytest

from longtake import media
from longtake.reel import ReelError, Segment, Snapshot, Stopped, disk, publish, record, stoppable
from longtake.reel import journal as journals
from tests.reel.reels import clock, content, counted, forked, waited


class Disk:
    """A disk that takes `room` bytes, and then fails with an error number."""

    def __init__(self, room: int, error: int = errno.ENOSPC):
        self.room, self.error, self.put = room, error, disk.put

    def __call__(self, file, data):
        raw = bytes(data)
        self.put(file, raw[: max(0, self.room)])
        self.room -= len(raw)
        if self.room < 0:
            raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def whole(tmp_path_factory):
    """A reel that nothing happened to, its content, and the bytes that were written for it."""
    folder, video = tmp_path_factory.mktemp("whole"), clock(segment=12, frames=61)
    meter = Disk(1 << 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "put", meter)
        list(record(video.rollout(), video.manifest(), folder))
    return video, folder, (1 << 40) - meter.room


def test_a_full_disk_at_any_byte(tmp_path, whole, monkeypatch):
    video, folder, total = whole
    for i, room in enumerate(range(0, total, total // 40)):
        with monkeypatch.context() as patch:
            patch.setattr(disk, "put", Disk(room))
            with pytest.raises(
                ReelError, match=r"the disk is full \(.*\): free some space and go on with `longtake res"
            ):
                list(record(video.rollout(), video.manifest(), tmp_path / str(i)))
        list(record(video.rollout(), video.manifest(), tmp_path / str(i)))
        assert counted(tmp_path / str(i) / "video.mp4") == list(range(61))
        assert content(tmp_path / str(i)) == content(folder)


def test_a_disk_that_is_full_again_and_again(tmp_path, whole, monkeypatch):
    video, folder, total = whole
    for _ in range(100):
        with monkeypatch.context() as patch:
            patch.setattr(disk, "put", Disk(total // 2))
            try:
                list(record(video.rollout(), video.manifest(), tmp_path))
                break
            except ReelError as error:
                assert "the disk is full" in str(error)
    assert (tmp_path / "video.mp4").read_bytes() == (folder / "video.mp4").read_bytes()


def test_nothing_half_written_is_left_under_a_name_that_counts(tmp_path, whole, monkeypatch):
    video, _, total = whole
    monkeypatch.setattr(disk, "put", Disk(total // 2))
    with pytest.raises(ReelError):
        list(record(video.rollout(), video.manifest(), tmp_path))
    assert not list(tmp_path.rglob("*.tmp"))
    for entry in journals.segments(tmp_path / "journal.jsonl"):
        assert disk.measure(tmp_path / "media" / entry.file) == entry.written


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EROFS, "cannot be written .* choose another folder"), (errno.EIO, "failed .Input/output error.: see that")],
)
def test_other_failures_of_the_disk(tmp_path, whole, monkeypatch, number, words):
    video, _, _ = whole
    with monkeypatch.context() as patch:
        patch.setattr(disk, "put", Disk(3000, number))
        with pytest.raises(ReelError, match=words):
            list(record(video.rollout(), video.manifest(), tmp_path))


@pytest.mark.parametrize("left", [0, 4000])
def test_no_room_for_the_joined_video(tmp_path, whole, monkeypatch, left):
    """Both when it is seen before, and when the muxer runs into it."""
    video, folder, _ = whole

    def join(init, segments, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if left:
            patch.setattr(media, "join", join)
        else:
            usage = publish.shutil.disk_usage(tmp_path)._replace(free=10)
            patch.setattr(publish.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(ReelError, match=r"the disk is full \(writing video\.mp4\)"):
            list(record(video.rollout(), video.manifest(), tmp_path))
    assert not list(tmp_path.glob("video*"))
    list(record(video.rollout(), video.manifest(), tmp_path))
    assert (tmp_path / "video.mp4").read_bytes() == (folder / "video.mp4").read_bytes()


def test_a_real_small_disk(tmp_path, whole):
    video, folder, _ = whole
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        with pytest.raises(ReelError, match="the disk is full"):
            list(record(video.rollout(), video.manifest(), tmp_path / "reel"))
        before = len(list(journals.segments(tmp_path / "reel" / "journal.jsonl")))
        subprocess.run(["mount", "-o", "remount,size=4m", tmp_path], check=True)
        list(record(video.rollout(), video.manifest(), tmp_path / "reel"))
        assert before > 0 and content(tmp_path / "reel") == content(folder)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_an_encoder_that_fails(tmp_path, whole, monkeypatch):
    video, folder, _ = whole
    write = media._write

    def fail(container, frames, first, *rest):
        if first >= 24:
            raise av.error.ExternalError(-542398533, "Generic error in an external library")
        write(container, frames, first, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(media, "_write", fail)
        with pytest.raises(
            ReelError, match=r"writing segment 2 .* failed: the H\.264 encoder failed at frame 24.*resume"
        ):
            list(record(video.rollout(), video.manifest(), tmp_path))
    assert len(list(journals.segments(tmp_path / "journal.jsonl"))) == 2
    list(record(video.rollout(), video.manifest(), tmp_path))
    assert content(tmp_path) == content(folder)


# ---------------------------------------------------------------- signals
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_and_it_can_be_resumed(tmp_path, number, code):
    video, ready = clock(frames=None), tmp_path / "ready"

    def child():
        try:
            with stoppable(), closing(record(video.rollout(), video.manifest(), tmp_path / "r", finish=True)) as events:
                for event in events:
                    if isinstance(event, Snapshot):
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
    next(event for event in more if isinstance(event, Segment) and not event.again)
    more.close()


def test_a_second_signal_does_not_wait():
    def child():
        with stoppable():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except Stopped:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)

    assert waited(forked(child)) == -signal.SIGTERM


def test_the_old_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stoppable():
        assert signal.getsignal(signal.SIGINT) not in before
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_in_the_middle_of_a_write(tmp_path, whole, monkeypatch):
    video, folder, total = whole
    for room in range(500, total, total // 8):
        stop = Disk(room)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "put", lambda file, data, stop=stop: _interrupt(stop, file, data))
            with pytest.raises(KeyboardInterrupt):
                list(record(video.rollout(), video.manifest(), tmp_path / str(room)))
        list(record(video.rollout(), video.manifest(), tmp_path / str(room)))
        assert (tmp_path / str(room) / "video.mp4").read_bytes() == (folder / "video.mp4").read_bytes()


def _interrupt(stop: Disk, file, data) -> None:
    try:
        stop(file, data)
    except OSError:
        raise KeyboardInterrupt from None
