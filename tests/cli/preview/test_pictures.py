"""Pictures in a terminal: what each kind of terminal reads is the image, and the kind is found by the environment."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from longtake.cli.preview.pictures import KINDS, blocks, iterm, kind_of, kitty, sixel
from longtake.cli.preview.region import Region

RED, BLUE = (200, 20, 20), (20, 20, 200)


@pytest.fixture
def image() -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((24, 96, 3), np.uint8)
    pixels[:, :48], pixels[:, 48:] = RED, BLUE
    return Image.fromarray(pixels)


def same(found: Image.Image, image: Image.Image) -> bool:
    """Whether two pictures are the same but for their size and a few levels."""
    small = np.asarray(found.convert("RGB").resize((8, 2)), int) - np.asarray(image.resize((8, 2)), int)
    return bool(abs(small)[:, [0, 1, 6, 7]].max() < 8)


def test_kitty_is_sent_the_png_in_pieces(image):
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 200, 3), np.uint8))
    for one in (image, noisy):
        parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(one, 40, 5))
        assert all(len(data) <= 4096 for _, data in parts)
        assert [part.endswith("m=1") for part, _ in parts] == [True] * (len(parts) - 1) + [False]
        assert "c=40,r=5" in parts[0][0] and "C=1" in parts[0][0]
        png = base64.b64decode("".join(data for _, data in parts))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(one))


def test_iterm_is_sent_the_png(image):
    found = re.fullmatch(r"\x1b\]1337;File=([^:]*):(.*)\a", iterm(image, 40, 5))
    assert found is not None and "width=40;height=5" in found[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(found[2])))), np.asarray(image))


def decoded_sixels(text: str) -> Image.Image:
    """Read a sixel image as a terminal does."""
    width, height = map(int, re.search(r'"1;1;(\d+);(\d+)', text).groups())
    colours = {
        int(n): [int(v) * 255 // 100 for v in rgb.split(";")] for n, rgb in re.findall(r"#(\d+);2;([\d;]+)", text)
    }
    pixels, y = np.zeros((height + 6, width, 3), np.uint8), 0
    body = re.sub(r'^.*?"1;1;\d+;\d+(#\d+;2;\d+;\d+;\d+)*', "", text.removesuffix("\033\\"), flags=re.S)
    for band in body.split("-")[:-1]:
        for line in band.split("$"):
            number, rest = re.fullmatch(r"#(\d+)(.*)", line, re.S).groups()
            row = re.sub(r"!(\d+)(.)", lambda run: run[2] * int(run[1]), rest)
            for x, character in enumerate(row):
                for bit in range(6):
                    if (ord(character) - 63) >> bit & 1:
                        pixels[y + bit, x] = colours[int(number)]
        y += 6
    return Image.fromarray(pixels[:height])


def test_sixels_are_the_image(image):
    found = decoded_sixels(sixel(image, 40, 5))
    assert found.size == (320, 80) and same(found, image)


def test_half_blocks_are_the_image(image):
    lines = blocks(image, 40, 5).split("\r\n")
    assert len(lines) == 5
    cells = [re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀", line) for line in lines]
    pixels = np.array(cells, np.uint8).reshape(5, 40, 2, 3).transpose(0, 2, 1, 3).reshape(10, 40, 3)
    assert same(Image.fromarray(pixels), image)


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "WezTerm", "TERM": "xterm-256color"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"LC_TERMINAL": "iTerm2", "TERM": "xterm"}, "iterm"),
        ({"TERM": "foot"}, "sixel"),
        ({"WT_SESSION": "x"}, "sixel"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({}, "blocks"),
    ],
)
def test_the_kind_of_pictures_is_found_by_the_environment(environment, kind):
    assert kind_of(environment) == kind
    assert kind in KINDS


def test_a_picture_is_drawn_over_the_one_before(image):
    file = io.StringIO()
    region = Region(
        Console(file=file, width=41, force_terminal=True), lambda image, columns, rows: f"<{columns}x{rows}>"
    )
    region.show(image, "first")
    region.show(image, "second, too long for one line of this narrow terminal")
    first, second = file.getvalue().split("first\r\n")
    assert "<40x5>" in first and not first.startswith("\033[")
    assert second.startswith("\033[6A\r") and "narrow" not in second
