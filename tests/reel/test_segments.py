"""Where segments begin depends on the frame number only; a viewer is told of nothing that is not on disk."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake import media
from longtake.events import Frames
from longtake.reel import ReelError, Segment, disk, journal, playlist, record
from longtake.reel.layout import Layout, claim
from longtake.reel.segments import Cutter
from tests.reel.reels import clock, counted


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 12), st.data())
def test_cuts_depend_on_the_frame_number_only(pushes, length, data):
    video = torch.arange(sum(pushes))[:, None, None, None].expand(-1, 1, 1, 3)
    stop = data.draw(st.integers(0, len(pushes)), label="a snapshot after this many pushes")
    cutter, cuts, at = Cutter(length), [], 0
    for i, count in enumerate(pushes):
        if i == stop:
            cutter = Cutter(length, cutter.first, cutter.pending)
        cuts += cutter.push(video[at : at + count])
        at += count
        assert cutter.waiting < length
    cuts += cutter.flush()
    assert [first for first, _ in cuts] == list(range(0, at, length))
    assert all(len(run) == length for _, run in cuts[:-1])
    assert torch.equal(torch.cat([run for _, run in cuts]) if cuts else video, video)


def test_pending_frames_do_not_keep_the_window_alive():
    cutter = Cutter(10)
    window = torch.zeros(95, 4, 4, 3)
    assert len(list(cutter.push(window))) == 9
    assert sum(part.untyped_storage().nbytes() for part in cutter.parts) == 5 * 4 * 4 * 3 * 4


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files are read from /proc")
def test_told_means_durable(tmp_path, monkeypatch):
    """When a Segment event comes, its file was synced, renamed and its folder synced, and then its journal line synced."""
    done = []
    name = lambda descriptor: disk.os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path) + "/r")
    replace = disk.os.replace
    monkeypatch.setattr(disk.os, "fsync", lambda descriptor: done.append(("sync", name(descriptor))))
    monkeypatch.setattr(
        disk.os, "replace", lambda a, b: (replace(a, b), done.append(("rename", str(b).split("/r", 1)[1])))
    )
    video = clock()
    for event in record(video.rollout(), video.manifest(), tmp_path / "r"):
        if isinstance(event, Segment):
            file = f"/media/{event.path.name}"
            wanted = [("sync", f"{file}.tmp"), ("rename", file), ("sync", "/media"), ("sync", "/journal.jsonl")]
            assert [step for step in done if step in wanted][-4:] == wanted
            assert disk.measure(event.path) == disk.Written(event.bytes, event.sha256)
            assert list(journal.segments(tmp_path / "r" / "journal.jsonl"))[-1].sha256 == event.sha256
            assert event.path.name in (tmp_path / "r" / "index.m3u8").read_text()


def test_the_playlist_only_grows_and_is_right(tmp_path):
    video, seen = clock(), b""
    for event in record(video.rollout(), video.manifest(), tmp_path):
        if isinstance(event, Segment | Frames):
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
    assert [time for time, _ in media.read(joined)] == [Fraction(n, 24) for n in range(127)]
    assert counted(tmp_path / "video.mp4") == list(range(127))
    assert [time for time, _ in media.read(tmp_path / "index.m3u8")] == [Fraction(n, 24) for n in range(127)]  # HLS


@pytest.mark.parametrize("hurt", ["lags", "torn", "gone", "longer"])
def test_a_playlist_that_does_not_fit_the_journal_is_written_anew(tmp_path, hurt):
    video = clock()
    list(record(video.rollout(), video.manifest(), tmp_path))
    path, whole = tmp_path / "index.m3u8", (tmp_path / "index.m3u8").read_bytes()
    bad = {"lags": whole[:-60], "torn": whole[:-5], "longer": whole + b"x\n", "gone": None}[hurt]
    path.unlink() if bad is None else path.write_bytes(bad)
    layout = Layout(tmp_path)
    assert not playlist.matches(layout, video.manifest())
    list(record(video.rollout(), video.manifest(), tmp_path))
    assert path.read_bytes() == whole and playlist.matches(layout, video.manifest())


def test_an_encoder_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    video = clock()
    events = record(video.rollout(), video.manifest(), tmp_path)
    next(event for event in events if isinstance(event, Segment))
    events.close()
    encode = media.encode
    other = lambda *args: media.Encoded(encode(*args).init + b"x", encode(*args).media)
    monkeypatch.setattr(media, "encode", other)
    with pytest.raises(ReelError, match=r"encoder here does not fit the segments .* versions that run\.json names"):
        list(record(video.rollout(), video.manifest(), tmp_path))


def test_folders_that_are_not_for_a_reel(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "headless").mkdir()
    (tmp_path / "headless" / "journal.jsonl").write_text("")
    (tmp_path / "file").write_text("x")
    cases = (("full", "not empty and is not a reel"), ("file", "is a file"), ("headless", "without its run.json"))
    for name, words in cases:
        with pytest.raises(ReelError, match=words):
            claim(tmp_path / name)
    for name in ("LOCK", "run.json.tmp"):  # what a process leaves that dies at once
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / name).write_text("")
    assert claim(tmp_path / "new").media.is_dir()
    with pytest.raises(ReelError, match=r"choose another|see that"):
        claim(Path("/proc/nowhere/reel"))
