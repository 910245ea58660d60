"""Clips of a prepared folder: the right pixels, latents that are encoded once, buckets in proportion, and changes."""

import os
import random
import shutil
import wave
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool3d

from longtake.data.prepare import Request, prepare
from longtake.data.rules import Rules
from longtake.media.video_reader import VideoError, VideoReader
from longtake.train.datasets.footage import ClipFormat, EncodedVariant
from longtake.train.datasets.prepared_folder import FootageConfig, open_footage
from longtake.train.toml_config import ConfigError, changes, read_table
from tests.data.clips import moving, texture, write

SEES = ClipFormat(
    fps=16, size=(64, 64), max_latent_frames=5, multiple=16, temporal_compression=4, scale=8, channels=3, vae="c0dec"
)
REQUEST = Request(Rules(min_seconds=0.5, min_side=64), "none")


def encode(frames):
    """Means over 4 frames (the first alone) and 8 x 8 pixels, as latents."""
    assert frames.shape[:2] == (1, 3) and frames.shape[2] % 4 == 1 and frames.abs().max() <= 1
    return avg_pool3d(torch.cat([frames[:, :, :1].repeat(1, 1, 3, 1, 1), frames], 2), (4, 8, 8))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Two wide videos of 40 and 20 frames, a tall one of 20 frames, and a slow one, prepared."""
    root = tmp_path_factory.mktemp("footage")
    write(root / "in" / "a.mp4", moving(1, 40, 96, 144))
    write(root / "in" / "b.mp4", moving(2, 20, 96, 144))
    write(root / "in" / "tall.mp4", moving(3, 20, 144, 96))
    write(root / "in" / "slow.mp4", moving(4, 20, 96, 144), fps=8)
    (root / "in" / "a.txt").write_text("blocks that move")
    assert prepare(root / "in", root / "out", REQUEST).kept == 4
    return root


def footage(root, tmp_path, encode=encode, lines=None, **settings):
    settings = {"sizes": ["96x64", "64x96"], "cache": str(tmp_path / "cache"), **settings}
    lines = [] if lines is None else lines
    return open_footage(root / "out", read_table(FootageConfig, settings, "footage"), SEES, encode, lines.append)


class Counting:
    """Counts what it encodes."""

    def __init__(self):
        self.count = 0

    def __call__(self, frames):
        self.count += 1
        return encode(frames)


def test_clips_fall_into_buckets(prepared, tmp_path):
    lines = []
    found = footage(prepared, tmp_path, lines=lines, seconds=[1.0, 0.5])
    shapes = [(clip.kept.video, clip.bucket.frames, clip.bucket.height) for clip in found.clips]
    assert shapes == [("a.mp4", 17, 64), ("a.mp4", 17, 64), ("b.mp4", 17, 64), ("tall.mp4", 17, 96)]
    assert lines[0] == "4 clips of 3 shots; 1 shots gave none" and "too slow: 8 frames per second" in lines[-1]
    assert [found.caption(n) for n in range(4)] == ["blocks that move"] * 2 + ["", ""]
    assert found.latents(3).shape == (3, 5, 12, 8) and found.latents(0).shape == (3, 5, 8, 12)
    defaults = footage(prepared, tmp_path, sizes=())
    assert {(clip.bucket.frames, clip.bucket.height, clip.bucket.width) for clip in defaults.clips} == {(17, 64, 64)}


def test_buckets_are_drawn_in_proportion_to_their_clips(prepared, tmp_path):
    found, rng = footage(prepared, tmp_path, seconds=[1.0, 0.3]), torch.Generator().manual_seed(0)
    shares = Counter(tuple(found.batch_spec(None, rng).numbers) for _ in range(4000))
    assert len(found.buckets) == 3 and sum(len(numbers) for _, numbers in found.buckets) == len(found)
    for bucket, numbers in found.buckets:
        assert {found.clips[n].bucket for n in numbers} == {bucket}
        assert shares[tuple(numbers)] / 4000 == pytest.approx(len(numbers) / len(found), abs=0.03)


def test_the_pixels_are_those_of_the_file(prepared, tmp_path):
    """Frames 17..33 of a.mp4, scaled to cover and cut in the middle: the second clip."""
    found = footage(prepared, tmp_path)
    frames = found.frames(1)
    assert frames.shape == (1, 3, 17, 64, 96) and torch.equal(found.frames(1, 5), frames[:, :, :5])
    with VideoReader(prepared / "in" / "a.mp4") as video:
        own = [frame.picture for frame in video.frames()][17:34]
    small = np.stack([picture.reshape(32, 3, 48, 3, 3).mean((1, 3)) for picture in own])
    seen = (frames[0].permute(1, 2, 3, 0).numpy() + 1) * 127.5
    seen = seen.reshape(17, 32, 2, 48, 2, 3).mean((2, 4))
    assert np.abs(seen - small).mean() < 8 < np.abs(seen[1:] - small[:-1]).mean()


def test_latents_are_encoded_once_and_are_equal_without_the_cache(prepared, tmp_path):
    first, again, alone = Counting(), Counting(), Counting()
    found = footage(prepared, tmp_path, first)
    fresh = [found.latents(n) for n in range(len(found))]
    kept = footage(prepared, tmp_path, again)
    assert all(torch.equal(kept.latents(n), latents) for n, latents in enumerate(fresh))
    assert first.count == len(fresh) == 4 and again.count == 0
    without = footage(prepared, tmp_path / "none", alone, cache_gb=0.0)
    assert all(torch.equal(without.latents(n), latents) for n, latents in enumerate(fresh)) and alone.count == 4
    assert not list((tmp_path / "none" / "cache").iterdir())


def test_ranks_share_the_work_and_a_stopped_run_continues_it(prepared, tmp_path):
    work = [Counting(), Counting()]
    for rank, counting in enumerate(work):
        footage(prepared, tmp_path, counting).fill((rank, 2), lambda line: None)
    assert [counting.count for counting in work] == [2, 2]
    for path in list((tmp_path / "cache").iterdir())[:1]:
        path.unlink()
    lines, rest = [], Counting()
    found = footage(prepared, tmp_path, rest)
    found.fill((0, 1), lines.append)
    assert rest.count == 1 and lines == ["1 of 1 clips encoded"]
    [found.latents(n) for n in range(4)]
    assert rest.count == 1


def test_a_cache_that_is_too_small_is_reported_and_keeps_its_limit(prepared, tmp_path):
    lines, work = [], Counting()
    found = footage(prepared, tmp_path, work, lines, cache_gb=9000 / 1e9)
    found.fill((0, 1), lines.append)
    assert work.count == 2 and "has room for 2 of 4 clips" in lines[-2]
    for number in (0, 1, 2, 3, 3):
        found.latents(number)
        assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 9000
    assert work.count == 4


def test_another_vae_or_variant_is_encoded_separately(prepared, tmp_path):
    work = Counting()
    found = footage(prepared, tmp_path, work)
    whole = found.latents(0)
    grey = EncodedVariant(lambda n: found.frames(n) * 0, lambda n: "grey")
    assert found.latents(0, grey).abs().max() == 0 and torch.equal(found.latents(0), whole) and work.count == 2
    other = footage(prepared, tmp_path, work)
    other.clip_format = ClipFormat(**{**SEES.__dict__, "vae": "other"})
    other.latents(0)
    assert work.count == 3


def test_changes_of_a_folder_are_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "copy")
    before = footage(prepared, tmp_path).facts()
    prepare(tmp_path / "copy" / "in", tmp_path / "copy" / "out", REQUEST)
    assert footage(tmp_path / "copy", tmp_path).facts() == before
    (tmp_path / "copy" / "in" / "a.txt").write_text("other words")
    write(tmp_path / "copy" / "in" / "new.mp4", moving(9, 20, 96, 144))
    (tmp_path / "copy" / "in" / "b.mp4").unlink()
    prepare(tmp_path / "copy" / "in", tmp_path / "copy" / "out", REQUEST)
    found = changes(before, footage(tmp_path / "copy", tmp_path).facts())
    assert [line.split(" was ")[0] for line in found] == ["videos.a.mp4", "videos.b.mp4", "videos.new.mp4"]


def test_a_changed_or_missing_file_is_named(prepared, tmp_path):
    shutil.copytree(prepared / "in", tmp_path / "in")
    prepare(tmp_path / "in", tmp_path / "out", REQUEST)
    found = footage(tmp_path, tmp_path)
    write(tmp_path / "in" / "a.mp4", [texture(7, 96, 144)] * 40)
    (tmp_path / "in" / "b.mp4").unlink()
    with pytest.raises(VideoError, match=r"a\.mp4: it has changed: prepare the folder again"):
        found.latents(0)
    with pytest.raises(VideoError, match=r"b\.mp4"):
        found.latents(2)


# ---------------------------------------------------------------- captions over time and control signals
def test_captions_that_change_in_a_clip(prepared, tmp_path):
    shutil.copytree(prepared / "in", tmp_path / "in")
    (tmp_path / "in" / "a.txt").unlink()
    table = "file,start,caption\na.mp4,0,one\na.mp4,0.5,two\na.mp4,1.2,three\nb.mp4,9,never\n"
    (tmp_path / "in" / "captions.csv").write_text(table)
    prepare(tmp_path / "in", tmp_path / "out", REQUEST)
    found = footage(tmp_path, tmp_path, seconds=[1.0])  # 17 frames of 16 a second, from 0 and from 17/16 s
    assert [clip.kept.video for clip in found.clips[:3]] == ["a.mp4", "a.mp4", "b.mp4"]
    assert found.all_captions(0) == [(0, "one"), (3, "two")], "latent 3 begins with frame 9, the first after 0.5 s"
    assert found.all_captions(1) == [(0, "two"), (2, "three")] and found.all_captions(2) == [(0, "")]
    assert [found.caption(0, latent) for latent in range(5)] == ["one", "one", "one", "two", "two"]
    assert found.caption_change(0) == 3 and found.caption_change(2) is None
    rng = random.Random(0)
    assert found.captions(0, 1, 4, rng) == [(0, "one"), (2, "two")] and found.captions(0, 3, 2, rng) == [(0, "two")]
    before = found.facts()
    (tmp_path / "in" / "captions.csv").write_text(table.replace("two", "another"))
    prepare(tmp_path / "in", tmp_path / "out", REQUEST)
    assert changes(before, footage(tmp_path, tmp_path, seconds=[1.0]).facts())


def test_a_caption_by_hand_keeps_later_captions(prepared, tmp_path):
    shutil.copytree(prepared / "in", tmp_path / "in")
    (tmp_path / "in" / "a.txt").unlink()
    (tmp_path / "in" / "captions.csv").write_text("file,start,caption\na.mp4,0,one\na.mp4,0.5,two\n")
    prepare(tmp_path / "in", tmp_path / "out", REQUEST)
    shots = tmp_path / "out" / "shots.jsonl"
    shots.write_text(shots.read_text().replace('"one"', '"mine"', 1))
    (tmp_path / "in" / "captions.csv").unlink()
    prepare(tmp_path / "in", tmp_path / "out", REQUEST)
    assert footage(tmp_path, tmp_path, seconds=[1.0]).all_captions(0) == [(0, "mine"), (3, "two")]


@pytest.fixture
def controlled(prepared, tmp_path):
    """A folder whose videos a.mp4 and b.mp4 have tables beside them, a row per frame of the file."""
    shutil.copytree(prepared / "in", tmp_path / "in")
    for name, frames in (("a", 40), ("b", 20)):
        np.savetxt(tmp_path / "in" / f"{name}.csv", np.arange(2 * frames).reshape(-1, 2), delimiter=",")
    report = prepare(tmp_path / "in", tmp_path / "out", REQUEST)
    assert report.kept == 4 and any("give --captions if a.csv, b.csv is a table" in note for note in report.notes)
    return tmp_path


def test_a_table_beside_a_video_is_the_control_signal_of_its_clips(controlled, tmp_path):
    lines = []
    found = footage(controlled, tmp_path, lines=lines, seconds=[1.0], control=".csv")
    assert [clip.kept.video for clip in found.clips] == ["a.mp4", "a.mp4", "b.mp4"] and found.control_width == 2
    assert any("1 videos have no .csv beside them, such as tall.mp4" in line for line in lines)
    assert torch.equal(found.control_signal(1), torch.arange(34, 68).float().view(17, 2)), "rows 17 to 33 of the video"
    half = footage(controlled, tmp_path, seconds=[1.0], fps=8.0, control=".csv")
    assert half.control_signal(0)[:3, 0].tolist() == [0, 4, 8], "of every second frame"
    before = found.facts()
    np.savetxt(controlled / "in" / "b.csv", np.ones((20, 2)), delimiter=",")
    changed = changes(before, footage(controlled, tmp_path, seconds=[1.0], control=".csv").facts())
    assert [line.split(" was ")[0] for line in changed] == ["videos.b.mp4"]


def test_a_sound_is_a_control_signal_by_time(controlled, tmp_path):
    loud = np.repeat(np.r_[np.full(8, 0.25), np.ones(8)], 1000)  # half a second each, at 16,000 a second
    with wave.open(str(controlled / "in" / "a.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
        file.writeframes((loud * 30000).astype("<i2").tobytes())
    found = footage(controlled, tmp_path, seconds=[1.0], control=".wav")
    assert found.control_width == 1 and len(found) == 2
    assert torch.allclose(found.control_signal(0)[:, 0], torch.tensor([0.25] * 8 + [1.0] * 8 + [0.0]), atol=1e-3)
    assert not found.control_signal(1).any(), "silence after its end"


def test_unsuitable_control_signals_are_refused(controlled, tmp_path):
    for kind, words in ((".wav", "no video has a .wav"), ("csv", "suffix of a file"), ("sound", "read as a sound")):
        with pytest.raises(ConfigError, match=words):
            footage(controlled, tmp_path, seconds=[1.0], control=kind)
    np.savetxt(controlled / "in" / "b.csv", np.ones((20, 3)), delimiter=",")
    with pytest.raises(ConfigError, match=r"2 in that of a\.mp4, 3 in that of b\.mp4"):
        footage(controlled, tmp_path, seconds=[1.0], control=".csv")
    np.savetxt(controlled / "in" / "a.csv", np.ones((30, 2)), delimiter=",")
    with pytest.raises(ConfigError, match=r"a\.csv has 30 rows"):
        footage(controlled, tmp_path, seconds=[1.0], control=".csv")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": ["96x60"]}, 'multiples of 16 pixels here, such as "96x64"'),
        ({"seconds": [2.0]}, "33 frames are 9 latents, but the network's view is 5"),
        ({"sizes": ["960x640"]}, "gives no clip of these lengths and sizes: 2 too small"),
        ({"sizes": ["64"]}, "sizes is WIDTHxHEIGHT"),
        ({"seconds": [-1.0]}, "seconds are durations"),
        ({"second": [1.0]}, "did you mean seconds"),
    ],
)
def test_unsuitable_settings_are_refused(prepared, tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        footage(prepared, tmp_path, **settings)


def test_a_video_that_was_replaced_after_its_latents_were_cached_is_refused(tmp_path):
    """Its cached latents would be those of the old video; prepared again, it is encoded again."""
    write(tmp_path / "in" / "a.mp4", moving(1, 20, 96, 144))
    write(tmp_path / "in" / "b.mp4", moving(2, 20, 96, 144))
    prepare(tmp_path / "in", tmp_path / "out", REQUEST)
    before = footage(tmp_path, tmp_path, seconds=[1.0])
    old = [before.latents(n) for n in range(2)]
    os.utime(tmp_path / "in" / "b.mp4")
    count = Counting()
    again = footage(tmp_path, tmp_path, count, seconds=[1.0])
    assert torch.equal(again.latents(1), old[1]) and not count.count, "another time alone changes nothing"
    write(tmp_path / "in" / "a.mp4", moving(5, 20, 96, 144))
    with pytest.raises(ConfigError, match=r"1 of the videos changed after .* \(a\.mp4\): prepare the folder again"):
        footage(tmp_path, tmp_path, seconds=[1.0])
    prepare(tmp_path / "in", tmp_path / "out", REQUEST)
    after = footage(tmp_path, tmp_path, count, seconds=[1.0])
    assert not torch.equal(after.latents(0), old[0]) and torch.equal(after.latents(1), old[1]) and count.count == 1
    (tmp_path / "in" / "b.mp4").unlink()
    assert torch.equal(footage(tmp_path, tmp_path, seconds=[1.0]).latents(1), old[1]), "a cached one may be gone"
