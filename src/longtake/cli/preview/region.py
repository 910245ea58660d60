"""A region of the terminal with a picture and a line below it, drawn again in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longtake.cli.preview.pictures import Draw

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

MOST_ROWS = 12
HIGHER = 2  # a character is about twice as high as it is wide
SAVE, RESTORE, ERASE = "\0337", "\0338", "\033[2K"


class Region:
    """The lower end of a terminal, where one picture replaces another."""

    def __init__(self, console: Console, draw: Draw):
        self.console, self.draw = console, draw
        self._lines = 0

    def show(self, image: Image, line: str) -> None:
        """Show a picture as wide as the terminal, and a line below it, in place of those before."""
        columns = max(1, self.console.width - 1)
        rows = round(columns * image.height / image.width / HIGHER)
        if rows > MOST_ROWS:
            columns, rows = max(1, columns * MOST_ROWS // rows), MOST_ROWS
        rows = max(1, rows)
        self._write(self._room(rows + 1) + SAVE + self.draw(image, columns, rows) + RESTORE + "\r\n" * rows + ERASE)
        self._write(line[: self.console.width - 1] + "\r\n")

    def _room(self, lines: int) -> str:
        """Return what moves the cursor to the first line of the region, with the screen scrolled up if it ends there."""
        up = f"\033[{self._lines}A" if self._lines else ""
        self._lines = lines
        return f"{up}\r" + "\r\n" * lines + f"\033[{lines}A"

    def _write(self, text: str) -> None:
        self.console.file.write(text)
        self.console.file.flush()
