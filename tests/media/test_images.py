"""Images of every mode and arrays of every range become the same 8-bit sRGB; what is lost is said, and nothing is truncated."""

import io
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from longtake.core.errors import InputError
from longtake.core.process.notices import InputWarning
from longtake.media.arrays import image_pixels, video_pixels
from longtake.media.images import fit_image, open_image

RAMP = np.linspace(0, 65535, 256 * 4).reshape(4, 256)
COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def opened(image, words=""):
    """The pixels of an image, which must cause exactly the warnings that are expected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = np.asarray(open_image(image))
    said = [str(one.message) for one in caught if one.category is InputWarning]
    assert len(said) == (1 if words else 0) and words in "".join(said), said
    return pixels.astype(int)


# ---------------------------------------------------------------- files
@pytest.mark.parametrize(
    ("name", "values", "most"),
    [("a.png", RAMP.astype(np.uint16), 65535), ("a.tif", RAMP.astype(np.uint16), 65535),
     ("b.tif", RAMP.astype(np.int32), 65535), ("c.tif", (RAMP / 65535).astype(np.float32), 1)],
)  # fmt: skip
def test_16_bits_and_floating_point_are_scaled(tmp_path, name, values, most):
    Image.fromarray(values).save(tmp_path / name)
    wanted = np.round(values.astype(np.float64) / most * 255).astype(int)
    for image in (tmp_path / name, Image.open(tmp_path / name)):
        shown = opened(image)
        assert shown.shape == (4, 256, 3) and np.abs(shown - wanted[..., None]).max() <= 1
        assert 126 < shown.mean() < 129


@pytest.mark.parametrize(
    ("values", "words"),
    [([[0.0, 5.0]], "from 0 to 5, not 0 to 1"), ([[-0.5, 0.5]], "from -0.5"), ([[0.0, np.nan]], "not finite"),
     ([[0.0, np.inf]], "not finite")],
)  # fmt: skip
def test_floating_point_outside_of_its_range_is_refused(tmp_path, values, words):
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=words):
        open_image(tmp_path / "a.tif")


def test_transparency_is_laid_over_white_and_said():
    solid = Image.fromarray(COLOURS)
    full, clear, half = solid.convert("RGBA"), solid.convert("RGBA"), solid.convert("RGBA")
    clear.putalpha(0)
    half.putalpha(51)
    assert np.array_equal(opened(full), COLOURS), "an opaque alpha channel changes nothing"
    assert (opened(clear, "laid over white") == 255).all()
    assert np.abs(opened(half, "laid over white") - (COLOURS * 0.2 + 255 * 0.8)).max() <= 1
    grey = Image.merge("LA", [Image.new("L", (4, 4), 7), Image.new("L", (4, 4), 0)])
    assert (opened(grey, "laid over white") == 255).all()
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=1)
    assert opened(Image.open(buffer), "laid over white").tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_become_rgb(mode):
    plain = Image.fromarray(np.full((4, 4, 3), 255, np.uint8)).convert(mode)
    assert (opened(plain) >= 253).all()


def test_images_are_turned_upright_also_in_memory(tmp_path):
    image = Image.fromarray(COLOURS)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    wanted = np.rot90(COLOURS, -1)
    assert np.array_equal(opened(tmp_path / "a.png"), wanted)
    assert np.array_equal(opened(Image.open(tmp_path / "a.png")), wanted)
    assert fit_image(Image.open(tmp_path / "a.png"), (8, 6)).shape == (8, 6, 3)


def test_a_colour_profile_is_applied():
    """A profile with linear light: the code 55 is the grey that sRGB writes as 128."""
    image = Image.new("RGB", (4, 4), (55, 55, 55))
    linear = linear_profile()
    image.info["icc_profile"] = linear
    assert abs(opened(image)[0, 0, 0] - 128) <= 2
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert opened(image)[0, 0].tolist() == [55] * 3
    image.info["icc_profile"] = b"nothing"
    assert opened(image, "cannot be read")[0, 0].tolist() == [55] * 3


def linear_profile():
    """sRGB's own profile, with the curves of its three colours made linear (an empty table)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for n in range(int.from_bytes(data[128:132], "big")):
        entry = 132 + 12 * n
        place, size = (int.from_bytes(data[entry + k : entry + k + 4], "big") for k in (4, 8))
        if data[entry + 1 : entry + 4] == b"TRC":
            data[place : place + 12] = b"curv" + bytes(8)
        if data[entry : entry + 4] == b"desc":
            data[place + 12 : place + size] = bytes(data[place + 12 : place + size]).replace(
                b"s\0R\0G\0B", b"l\0i\0n\0e"
            )
    return bytes(data)


def test_the_first_image_of_an_animation_is_used_and_said(tmp_path):
    one, two = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    one.save(tmp_path / "a.gif", save_all=True, append_images=[two])
    assert opened(tmp_path / "a.gif", "has 2 images")[0, 0].tolist() == [255, 0, 0]


def bomb(path):
    Image.new("1", (8, 8)).save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = (30000).to_bytes(4, "big") * 2
    path.write_bytes(data)


def cut(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:4000])


BROKEN = {
    "a pipe": (os.mkfifo, "a pipe or a device"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a pipe or a device"),
    "a folder": (os.mkdir, "a folder"),
    "missing": (lambda path: None, "there is no image"),
    "a web page": (lambda path: path.write_text("<html>"), "a web page"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "a claim of 900 million pixels": (bomb, "cannot be read as an image"),
    "cut short": (cut, "cannot be read as an image"),
    "PostScript": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"),
                   "is PostScript|cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_refused_in_one_sentence(tmp_path, name):
    make, words = BROKEN[name]
    make(path := tmp_path / "a.png")
    with pytest.raises(InputError, match=words) as error:
        open_image(path)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- arrays
UNIT = (COLOURS / 255).astype(np.float32)
SAME = {
    "uint8": COLOURS,
    "float32": UNIT,
    "float64": UNIT.astype(np.float64),
    "channels first": np.moveaxis(UNIT, -1, 0),
    "tensor in [0, 1]": torch.from_numpy(UNIT),
    "tensor in [-1, 1]": torch.from_numpy(UNIT) * 2 - 1,
    "tensor as in diffusers": (torch.from_numpy(UNIT) * 2 - 1).permute(2, 0, 1)[None],
    "uint8 tensor": torch.from_numpy(COLOURS).permute(2, 0, 1),
    "opaque": np.concatenate([COLOURS, np.full((6, 8, 1), 255, np.uint8)], -1),
}


@pytest.mark.parametrize("name", SAME)
def test_arrays_of_every_range_are_the_same_image(name):
    assert np.array_equal(opened(SAME[name]), COLOURS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_same_within_its_precision(dtype):
    assert np.abs(opened((torch.from_numpy(UNIT) * 2 - 1).to(dtype)) - COLOURS).max() <= 1


def test_grey_arrays_have_equal_channels():
    assert opened(COLOURS[..., 0])[..., 2].tolist() == COLOURS[..., 0].tolist()


REFUSED = {
    "floats up to 255": (COLOURS.astype(np.float32), "from 0|from 1|to 25"),
    "an array in [-1, 1]": (UNIT * 2 - 1, "from -"),
    "beyond -1": (torch.from_numpy(UNIT) * 3 - 2, "from -"),
    "int64": (COLOURS.astype(np.int64), "type int64"),
    "uint16": (COLOURS.astype(np.uint16), "type uint16"),
    "bool": (COLOURS > 3, "type bool"),
    "complex": (UNIT.astype(np.complex64), "type complex64"),
    "NaN": (np.where(UNIT.max() == UNIT, np.nan, UNIT), "not finite"),
    "infinity": (np.where(UNIT.max() == UNIT, np.inf, UNIT), "not finite"),
    "text": (np.array([["a"]]), "three colour channels|type"),
    "two channels": (COLOURS[..., :2], "three colour channels"),
    "one row": (COLOURS[0, 0], "has the shape"),
    "nothing": (COLOURS[:0], "three colour channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_is_refused(name):
    array, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        image_pixels(array)


def test_a_video_has_one_range_also_where_a_frame_is_bright():
    bright = np.maximum(COLOURS, 128)
    video = np.stack([bright, COLOURS])
    tensor = torch.from_numpy(video).float() / 127.5 - 1
    for given in (video, torch.from_numpy(video), tensor, tensor.permute(0, 3, 1, 2), tensor.permute(3, 0, 1, 2)[None]):
        assert np.array_equal(video_pixels(given).numpy(), video)
    for wrong in (COLOURS, video[:0], video.astype(np.int32), tensor * 2):
        with pytest.raises(InputError):
            video_pixels(wrong)
