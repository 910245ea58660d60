"""The one reader of video shows every colour coding, orientation, field order and rate as a good player does."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from longtake.core.errors import InputError
from longtake.media.images import resample_frames
from longtake.media.video_reader import VideoError, VideoReader, timed_frames
from tests.media.odd_videos import RED, corners, with_matrix, write


def first(path):
    """The first frame of a video, and what the reader says that it changed."""
    with VideoReader(path) as video:
        return next(video.frames(exact=True)).picture, video.stream.changes


def middle(path):
    picture, _ = first(path)
    return picture[picture.shape[0] // 2, picture.shape[1] // 2].tolist()


def near(shown, wanted, most=3):
    assert np.abs(np.array(shown, int) - np.array(wanted, int)).max() <= most, (shown, wanted)


# ---------------------------------------------------------------- colours
@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9, None])
@pytest.mark.parametrize("full", [False, True])
def test_every_matrix_and_range_shows_the_same_colours(tmp_path, matrix, full):
    path = write(tmp_path / "a.mp4", [corners()] * 2, matrix=matrix if matrix != 6 else 5, full=full)
    near(middle(path), RED)
    near(first(path)[0][3, 3], [255] * 3, 2)
    near(first(path)[0][-3, -3], [0] * 3, 2)


@pytest.mark.parametrize(("size", "matrix"), [((720, 1280), 1), ((544, 1280), 1), ((576, 1024), 5), ((480, 640), 5)])
def test_video_without_tags_is_bt709_if_it_is_hd(tmp_path, size, matrix):
    path = write(tmp_path / "a.avi", [corners(*size)], matrix=matrix, codec="mpeg4", options={"qscale": "1"})
    with av.open(str(path)) as file:
        assert int(next(file.decode(video=0)).colorspace) == 2, "the file has no tag"
    near(middle(path), RED, 4)


def pq(light):
    """PQ codes (uint16) of light in cd/m2."""
    power = (np.array(light) / 10000) ** 0.1593017578125
    return np.round(65535 * ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def wide(path, colour, trc, primaries=9, codec="libx264"):
    """A 10-bit video of one colour, in codes (uint16) of a transfer function and primaries."""
    picture = np.broadcast_to(np.array(colour, np.uint16), (64, 64, 3)).copy()
    options = {"qp": "0"}
    tags = {"color_trc": trc, "color_primaries": primaries}
    return write(path, [picture] * 2, matrix=9, pix_fmt="yuv444p10le", codec=codec, options=options, tags=tags)


def test_pq_is_tone_mapped(tmp_path):
    """Greys far below white keep their light, white is nearly white, and brighter light still differs."""
    shown = [middle(wide(tmp_path / "a.mp4", [pq(light)] * 3, 16))[0] for light in (0, 2, 20, 203, 600, 1000, 4000)]
    near(shown[:3], [0, round(255 * (2 / 203) ** (1 / 2.4)), round(255 * (20 / 203) ** (1 / 2.4))], 2)
    assert 200 < shown[3] < shown[4] < shown[5] == shown[6] == 255
    assert first(tmp_path / "a.mp4")[1] == ("tone-maps HDR (PQ) to BT.709, with white at 203 cd/m2",)


def test_hlg_is_tone_mapped_to_nearly_the_same_picture(tmp_path):
    """BT.2408: HLG 75 % is white (203 cd/m2), 38 % is 18 % grey (26 cd/m2)."""
    white, grey = (middle(wide(tmp_path / "a.mp4", [65535 * share] * 3, 18))[0] for share in (0.75, 0.38))
    near([white, grey], [middle(wide(tmp_path / "b.mp4", [pq(light)] * 3, 16))[0] for light in (203, 26)], 4)
    assert first(tmp_path / "a.mp4")[1][0].startswith("tone-maps HDR (HLG)")


@pytest.mark.parametrize(("primaries", "green"), [(9, [0.3293, 0.9195, 0.0880]), (12, [0.1768, 0.9587, -0.0])])
def test_wide_gamuts_are_converted_to_bt709(tmp_path, primaries, green):
    """Grey stays grey; a dull green has the linear light that the colour matrices of BT.2087 and Display P3 give it."""
    grey = [round(65535 * 0.5)] * 3
    near(middle(wide(tmp_path / "a.mp4", grey, 14 if primaries == 9 else 1, primaries)), [128] * 3, 1)
    linear = np.array([0.2, 0.4, 0.2])  # in the wide gamut
    codes = np.round(65535 * linear ** (1 / 2.4))
    to_709 = {
        9: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
        12: [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]],
    }[primaries]
    wanted = np.round(255 * np.maximum(np.array(to_709) @ linear, 0) ** (1 / 2.4))
    near(middle(wide(tmp_path / "b.mp4", codes, 14 if primaries == 9 else 1, primaries)), wanted, 2)
    assert first(tmp_path / "b.mp4")[1] == ("converts its colours to BT.709",)


def test_transparent_pixels_are_laid_over_white(tmp_path):
    clear, full = Image.new("RGBA", (32, 32), (200, 40, 60, 0)), Image.new("RGBA", (32, 32), (200, 40, 60, 255))
    clear.save(tmp_path / "a.png", save_all=True, append_images=[full], duration=100)
    with VideoReader(tmp_path / "a.png") as video:
        assert [frame.picture[16, 16].tolist() for frame in video.frames(exact=True)] == [[255] * 3, list(RED)]
        assert video.stream.changes == ("lays its transparent parts over white",)


def test_a_colour_coding_that_cannot_be_converted_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4", [corners()] * 2, tags={"color_trc": 17})
    with pytest.raises(VideoError, match=r"transfer function 17 of H\.273 .*ffmpeg -i IN"):
        VideoReader(path)


# ---------------------------------------------------------------- shape
@pytest.mark.parametrize("a", [1, -1])
@pytest.mark.parametrize("d", [1, -1])
@pytest.mark.parametrize("swap", [False, True])
def test_every_display_matrix_rotates_and_mirrors_as_it_says(tmp_path, a, d, swap):
    flat = write(tmp_path / "flat.mp4", [corners()] * 2)
    path = with_matrix(flat, (0, a, d, 0) if swap else (a, 0, 0, d), tmp_path / "turned.mp4")
    before, shown = first(flat)[0], first(path)[0]
    height, width = before.shape[:2]
    for y, x in ((3, 3), (3, width - 4), (height - 4, 3), (height - 4, width - 4)):
        to_x, to_y = (d * y, a * x) if swap else (a * x, d * y)  # negative: counted from the other end
        wanted = (to_y if to_y >= 0 else to_y - 1, to_x if to_x >= 0 else to_x - 1)
        assert shown[wanted].tolist() == before[y, x].tolist()


def test_pixels_become_square_also_in_a_turned_video(tmp_path):
    path = write(tmp_path / "a.mp4", [corners(48, 48)] * 2, aspect=Fraction(2))
    shown, changes = first(path)
    assert shown.shape == (48, 96, 3) and changes == ("makes its pixels square (they are 2:1)",)
    assert first(with_matrix(path, (0, 1, -1, 0), tmp_path / "b.mp4"))[0].shape == (96, 48, 3)


def test_interlaced_video_is_deinterlaced_and_found_again_by_seeking(tmp_path):
    """An edge that moves 8 pixels per field is a comb in the file, and none after."""

    def edge(at):
        return np.repeat(np.repeat((np.arange(96) >= at)[None, :, None] * np.uint8(255), 64, 0), 3, 2)

    def woven(number):
        picture = edge(16 * number % 80)
        picture[1::2] = edge((16 * number + 8) % 80)[1::2]
        return picture

    options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1:tff=1", "g": "12", "bf": "0"}
    path = write(tmp_path / "a.mp4", [woven(n) for n in range(40)], options=options)
    with VideoReader(path) as video:
        frames = list(video.frames(exact=True))
        assert video.stream.changes == ("deinterlaces it",)
    assert [frame.number for frame in frames] == list(range(40))
    assert [frame.stamp * video.stream.base for frame in frames] == [Fraction(n, 24) for n in range(40)]
    comb = [np.abs(np.diff(frame.picture[8:-8].astype(int), 1, 0)).mean() for frame in frames[1:-1]]
    woven_comb = np.abs(np.diff(woven(1)[8:-8].astype(int), 1, 0)).mean()
    assert np.median(comb) < woven_comb / 4
    with VideoReader(path) as video:
        found = list(video.at([frames[n].stamp for n in (13, 24, 37)]))
    assert all(np.array_equal(a, frames[n].picture) for a, n in zip(found, (13, 24, 37)))


@pytest.mark.parametrize("size", [(15, 17), (2, 64), (1, 1)])
def test_odd_sizes_keep_every_pixel(tmp_path, size):
    path = write(tmp_path / "a.mkv", [np.full((*size, 3), RED, np.uint8)] * 2, pix_fmt="yuv444p")
    assert first(path)[0].shape == (*size, 3)
    near(first(path)[0].mean((0, 1)), RED)


# ---------------------------------------------------------------- time
def test_one_frame_and_variable_rates(tmp_path):
    one = list(resample_frames(timed_frames(write(tmp_path / "a.mp4", [corners()])), Fraction(24)))
    assert len(one) == 1
    Image.fromarray(corners()).save(tmp_path / "still.png")
    assert len(list(resample_frames(timed_frames(tmp_path / "still.png"), Fraction(24)))) == 1
    grey = [np.full((32, 32, 3), 20 * n, np.uint8) for n in range(6)]
    path = write(tmp_path / "b.mp4", grey, times=[0, 1, 2, 12, 13, 24])
    shown = [round(float(frame.float().mean()) / 20) for frame in resample_frames(timed_frames(path), Fraction(24))]
    assert shown == [0, 1, *[2] * 6, *[3] * 5, *[4] * 6, *[5] * 10]


def test_a_gap_of_hours_is_refused_before_it_fills_the_disk():
    frames = [(Fraction(0), torch.zeros(2, 2, 3)), (Fraction(10**9), torch.zeros(2, 2, 3))]
    with pytest.raises(InputError, match=r"no frame for .* s behind second 0"):
        list(resample_frames(frames, Fraction(24)))


# ---------------------------------------------------------------- defects
def cut_short(path):
    data = write(path, [corners()] * 40).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def cut_behind_its_index(path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 80, 3), np.uint8)
    data = write(path, list(noise), container={"movflags": "faststart"}).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def animated_webp(path):
    pictures = [Image.new("RGB", (16, 16), (9 * n, 0, 0)) for n in range(3)]
    pictures[0].save(path, "WEBP", save_all=True, append_images=pictures[1:])


def device(path):
    path.symlink_to("/dev/zero")


BROKEN = {
    "cut short": (cut_short, r"cut off before its index \(moov\)"),
    "cut behind its index": (cut_behind_its_index, "breaks off after|is truncated"),
    "animated WebP": (animated_webp, "animated WebP cannot be read: convert it"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "a web page": (lambda path: path.write_text("<!doctype html><p>not found"), "it is a web page"),
    "an LFS pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "a pipe": (os.mkfifo, "a pipe or a device"),
    "a device": (device, "a pipe or a device"),
    "a folder": (os.mkdir, "a folder"),
    "missing": (lambda path: None, "no such file"),
    "other bytes": (lambda path: path.write_bytes(bytes(range(256)) * 40), "cannot be opened as a video|breaks off"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_video_is_refused_in_one_sentence(tmp_path, name):
    make, words = BROKEN[name]
    make(path := tmp_path / "a.mp4")
    with pytest.raises(VideoError, match=words) as error:
        list(timed_frames(path))
    assert "\n" not in str(error.value) and "a.mp4 cannot be read as a video" in str(error.value)


def test_frames_that_an_edit_list_hides_do_not_count_as_cut_off(tmp_path):
    path = write(tmp_path / "a.mp4", [corners()] * 48, times=range(-30, 18), options={"g": "100", "bf": "0"})
    with VideoReader(path) as video:
        assert video.stream.frames == 48
        assert len(list(video.frames())) == 18


def test_a_size_that_would_fill_the_memory_is_refused(tmp_path):
    picture = Image.new("P", (8, 8))
    picture.save(tmp_path / "a.gif")
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = (15000).to_bytes(2, "little") * 2
    (tmp_path / "a.gif").write_bytes(data)
    with pytest.raises(VideoError, match=r"cannot be opened|more than|invalid"):
        VideoReader(Path(tmp_path / "a.gif"))
    wide = write(tmp_path / "b.mp4", [corners(720, 1280)] * 2, aspect=Fraction(256))
    with pytest.raises(VideoError, match="pixels, more than"):
        VideoReader(wide)


def test_a_video_is_read_from_its_bytes_as_from_its_file(tmp_path):
    path = write(tmp_path / "a.mp4", [corners()] * 3)
    shutil.copy(path, tmp_path / "b")
    assert all(
        torch.equal(a[1], b[1]) for a, b in zip(timed_frames(path), timed_frames(path.read_bytes()), strict=True)
    )
