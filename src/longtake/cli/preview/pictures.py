"""Pictures in a terminal: the graphics of kitty, inline images of iTerm2, sixel, and half blocks for all others.

Each function turns an image into text that draws it from the cursor on, so many columns wide and so many rows high. Where the
cursor is afterwards differs between terminals; `longtake.cli.preview.region` puts it back.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longtake.core.errors import SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

Draw = Callable[["Image", int, int], str]
CELL_WIDTH, CELL_HEIGHT = 8, 16  # pixels of a character that sixel images are made for
KITTY_CHUNK = 4096  # bytes of base64 in one escape sequence at most
COLOURS = 32  # of a sixel image


def kitty(image: Image, columns: int, rows: int) -> str:
    """Return the escape sequences of the kitty graphics protocol, also of Ghostty and WezTerm; one picture replaces another."""
    data = base64.b64encode(_png(image)).decode()
    chunks = [data[i : i + KITTY_CHUNK] for i in range(0, len(data), KITTY_CHUNK)]
    parts = []
    for i, chunk in enumerate(chunks):
        about = f"a=T,f=100,i=1,p=1,q=2,C=1,c={columns},r={rows}," if not i else ""
        parts.append(f"\033_G{about}m={int(i < len(chunks) - 1)};{chunk}\033\\")
    return "".join(parts)


def iterm(image: Image, columns: int, rows: int) -> str:
    """Return the escape sequence of an inline image of iTerm2, also of mintty, WezTerm and VS Code."""
    data = _png(image)
    about = f"inline=1;size={len(data)};width={columns};height={rows};preserveAspectRatio=0;doNotMoveCursor=1"
    return f"\033]1337;File={about}:{base64.b64encode(data).decode()}\a"


def sixel(image: Image, columns: int, rows: int) -> str:
    """Return a sixel image, for foot, mlterm, xterm -ti vt340, Windows Terminal and others."""
    from PIL import Image as images

    small = image.convert("RGB").resize((columns * CELL_WIDTH, rows * CELL_HEIGHT), images.Resampling.BILINEAR)
    flat = small.quantize(COLOURS)
    palette = np.array(flat.getpalette()).reshape(-1, 3) * 100 // 255
    pixels = np.asarray(flat)
    height, width = pixels.shape
    parts = [f'\033P0;1;0q"1;1;{width};{height}']
    parts += [f"#{number};2;{red};{green};{blue}" for number, (red, green, blue) in enumerate(palette)]
    for top in range(0, height, 6):
        band = pixels[top : top + 6]
        parts.append("$".join(f"#{colour}{_sixels(band == colour)}" for colour in np.unique(band)) + "-")
    return "".join(parts) + "\033\\"


def _sixels(there: np.ndarray) -> str:
    """Return the characters of one colour in a band of up to six rows of pixels (rows, width), with repeats counted."""
    bits = (there << np.arange(len(there))[:, None]).sum(0)
    characters = (bits + 63).astype(np.uint8).tobytes().decode("ascii").rstrip("?")
    return re.sub(r"(.)\1{3,}", lambda run: f"!{len(run[0])}{run[1]}", characters)


def blocks(image: Image, columns: int, rows: int) -> str:
    """Return lines of half blocks in 24-bit colour, two pixels to a character."""
    from PIL import Image as images

    small = image.convert("RGB").resize((columns, 2 * rows), images.Resampling.BILINEAR)
    pairs = np.asarray(small).reshape(rows, 2, columns, 3).transpose(0, 2, 1, 3).reshape(rows, columns, 6).tolist()
    cell = "\033[38;2;{};{};{};48;2;{};{};{}m▀"
    return "\r\n".join("".join(cell.format(*six) for six in line) + "\033[0m" for line in pairs)


TERMINAL = "terminal"  # the kind that `kind_of` finds
PREVIEW_FILES = (".png", ".jpg", ".jpeg", ".webp")
KINDS: Mapping[str, Draw] = {"kitty": kitty, "iterm": iterm, "sixel": sixel, "blocks": blocks}


def kind_of(environment: Mapping[str, str]) -> str:
    """Return the pictures that a terminal shows, by the variables that it sets; half blocks inside tmux and screen."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "").lower()
    if environment.get("TMUX") or term.startswith(("tmux", "screen")):
        return "blocks"
    if environment.get("KITTY_WINDOW_ID") or "kitty" in term or program in ("ghostty", "wezterm") or "ghostty" in term:
        return "kitty"
    if program in ("iterm.app", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    if "sixel" in term or term.startswith(("foot", "mlterm", "yaft")) or environment.get("WT_SESSION"):
        return "sixel"
    return "blocks"


def check_preview(asked: str | None) -> None:
    """Raise SettingsError unless --preview names an image file or a kind of pictures in the terminal."""
    if asked is not None and asked not in (TERMINAL, *KINDS) and Path(asked).suffix.lower() not in PREVIEW_FILES:
        raise SettingsError(
            f"--preview is a file that ends with {', '.join(PREVIEW_FILES)}, or {TERMINAL}, {', '.join(KINDS)}, not {asked!r}"
        )


def _png(image: Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "png", compress_level=1)
    return file.getvalue()
