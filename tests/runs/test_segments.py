"""Where a segment begins depends only on the frame number, and no event names a segment before it is durable."""

import os
import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.engine.events import Frames
from longtake.media import video_io as media
from longtake.media.video_reader import timed_frames
from longtake.runs import RunError, SegmentWritten, record
from longtake.runs.files import durable as disk
from longtake.runs.files import journal, playlist
from longtake.runs.files.folder import create_layout, existing_layout
from longtake.runs.files.layout import Layout
from longtake.runs.segments import SegmentBuffer
from tests.runs.toy_runs import clock, counted


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 12), st.data())
def test_segments_begin_at_multiples_of_their_length(pushes, length, data):
    video = torch.arange(sum(pushes))[:, None, None, None].expand(-1, 1, 1, 3)
    stop = data.draw(st.integers(0, len(pushes)), label="a snapshot after this many pushes")
    buffer, segments, at = SegmentBuffer(length), [], 0
    for i, count in enumerate(pushes):
        if i == stop:
            buffer = SegmentBuffer(length, buffer.first, buffer.pending)
        segments += buffer.push(video[at : at + count])
        at += count
        assert buffer.waiting < length
    segments += buffer.flush()
    assert [first for first, _ in segments] == list(range(0, at, length))
    assert all(len(run) == length for _, run in segments[:-1])
    assert torch.equal(torch.cat([run for _, run in segments]) if segments else video, video)


def test_pending_frames_do_not_keep_the_window_alive():
    buffer = SegmentBuffer(10)
    window = torch.zeros(95, 4, 4, 3)
    assert len(list(buffer.push(window))) == 9
    assert buffer.held_bytes == 5 * 4 * 4 * 3 * 4


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files are read from /proc")
def test_a_segment_is_durable_before_its_event(tmp_path, monkeypatch):
    """The file is synced and renamed, its folder synced, and then its journal line synced, before SegmentWritten comes."""
    done = []
    name = lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path) + "/r")
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(("sync", name(descriptor))))
    monkeypatch.setattr(
        disk.os, "replace", lambda a, b: (replace(a, b), done.append(("rename", str(b).split("/r", 1)[1])))
    )
    video = clock()
    for event in record(video.rollout(), video.manifest(), tmp_path / "r"):
        if isinstance(event, SegmentWritten):
            file = f"/media/{event.path.name}"
            wanted = [("sync", f"{file}.tmp"), ("rename", file), ("sync", "/media"), ("sync", "/journal.jsonl")]
            assert [step for step in done if step in wanted][-4:] == wanted
            assert disk.file_digest(event.path) == disk.FileDigest(event.bytes, event.sha256)
            assert list(journal.segments(tmp_path / "r" / "journal.jsonl"))[-1].sha256 == event.sha256
            assert event.path.name in (tmp_path / "r" / "index.m3u8").read_text()


def test_the_playlist_only_grows_and_is_right(tmp_path):
    video, seen = clock(), b""
    for event in record(video.rollout(), video.manifest(), tmp_path):
        if isinstance(event, SegmentWritten | Frames):
            now = (tmp_path / "index.m3u8").read_bytes()
            assert now.startswith(seen) and b"ENDLIST" not in now
            seen = now
    text = (tmp_path / "index.m3u8").read_text()
    assert text.encode().startswith(seen) and text.endswith("#EXT-X-ENDLIST\n")
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in text and '#EXT-X-MAP:URI="media/init.mp4"' in text
    lengths = [float(x) for x in re.findall(r"#EXTINF:([\d.]+),", text)]
    assert lengths == pytest.approx([1.0] * 5 + [7 / 24], abs=1e-6)
    assert int(re.search(r"TARGETDURATION:(\d+)", text)[1]) >= max(lengths)
    files = re.findall(r"^media/.*m4s$", text, re.MULTILINE)
    joined = b"".join((tmp_path / name).read_bytes() for name in ["media/init.mp4", *files])
    assert [time for time, _ in timed_frames(joined)] == [Fraction(n, 24) for n in range(127)]
    assert counted(tmp_path / "video.mp4") == list(range(127))
    assert [time for time, _ in timed_frames(tmp_path / "index.m3u8")] == [Fraction(n, 24) for n in range(127)]  # HLS


@pytest.mark.parametrize("hurt", ["lags", "torn", "gone", "longer"])
def test_a_playlist_that_does_not_match_the_journal_is_written_again(tmp_path, hurt):
    video = clock()
    list(record(video.rollout(), video.manifest(), tmp_path))
    path, whole = tmp_path / "index.m3u8", (tmp_path / "index.m3u8").read_bytes()
    bad = {"lags": whole[:-60], "torn": whole[:-5], "longer": whole + b"x\n", "gone": None}[hurt]
    path.unlink() if bad is None else path.write_bytes(bad)
    layout = Layout(tmp_path)
    assert not playlist.matches(layout, video.manifest())
    list(record(video.rollout(), video.manifest(), tmp_path))
    assert path.read_bytes() == whole and playlist.matches(layout, video.manifest())


def test_an_encoder_with_another_header_is_refused(tmp_path, monkeypatch):
    video = clock()
    events = record(video.rollout(), video.manifest(), tmp_path)
    next(event for event in events if isinstance(event, SegmentWritten))
    events.close()
    encode = media.encode
    other = lambda *args: media.Encoded(encode(*args).init + b"x", encode(*args).media)
    monkeypatch.setattr(media, "encode", other)
    with pytest.raises(
        RunError, match=r"video encoder here does not fit the segments .* versions that run\.json names"
    ):
        list(record(video.rollout(), video.manifest(), tmp_path))


def test_folders_with_other_files_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "headless").mkdir()
    (tmp_path / "headless" / "journal.jsonl").write_text("")
    (tmp_path / "file").write_text("x")
    cases = (("full", "not empty and is not a run"), ("file", "is a file"), ("headless", "without its run.json"))
    for name, words in cases:
        with pytest.raises(RunError, match=words):
            create_layout(tmp_path / name)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    wrong = r"cannot be a folder \(.*"
    for name, words in (
        ("file/below", f"{wrong}not a directory"), ("circle", f"{wrong}symbolic links"), ("n" * 300, "has 300 bytes|too long")
    ):  # fmt: skip
        for look in (create_layout, existing_layout):
            with pytest.raises(RunError, match=words) as caught:
                look(tmp_path / name)
            assert caught.value.__cause__ is None  # which makes it a bad input, not a disk that failed
    with pytest.raises(RunError, match="file is a file"):
        existing_layout(tmp_path / "file")
    for name in ("LOCK", "run.json.tmp"):  # files that a process leaves if it dies at once
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / name).write_text("")
    (tmp_path / "new" / "inputs").mkdir()
    for name in ("image.png", "last_image.png", "video.mp4", "control.csv.tmp"):
        (tmp_path / "new" / "inputs" / name).write_text("")
    assert create_layout(tmp_path / "new").media.is_dir()
    with pytest.raises(RunError, match=r"choose another|check that"):
        create_layout(Path("/proc/nowhere/run"))
