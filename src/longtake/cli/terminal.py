"""A plan in the terminal: half blocks in colour, two model calls to a line; shade characters where there is no colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.style import Style
from rich.text import Text

from longtake.cli.picture import KNOWN, NOISE, TOLD, Cell, Panel, thinned
from longtake.geometry import first_frame

MARGIN = 7  # characters left of a panel, for the number of the model call
Row = dict[int, Cell]


def draw(panels: Sequence[Panel], stride: int, console: Console, most: int = 40) -> Iterator[Text]:
    """Lines of text, panels one below the other on one time axis; at most `most` rows each."""
    columns = range(max(panel.columns.stop for panel in panels))
    wide = 2 if MARGIN + 2 * len(columns) <= console.width else 1
    shown = range(min(len(columns), (console.width - MARGIN) // wide))
    colour = console.color_system in ("truecolor", "256")
    yield _axis(shown, stride, wide)
    for panel in panels:
        if panel.opening:
            yield Text(" " * MARGIN + "✂ " + panel.opening, "bold magenta")
        yield Text(" " * MARGIN + panel.title, "bold")
        yield from (_blocks if colour else _marks)(panel, shown, wide, most)
    yield Text()
    yield legend(colour, any(c.role == "beside" for p in panels for c in p.rows[0].values()))


def _axis(columns: range, stride: int, wide: int) -> Text:
    """Numbers of output frames above the latent frames that they begin."""
    line = [" "] * (MARGIN + wide * len(columns) + 8)
    every = 8 // wide
    for column in columns[::every]:
        label = str(first_frame(column, stride))
        line[MARGIN + column * wide : MARGIN + column * wide + len(label)] = label
    text = Text("".join(line).rstrip(), "dim")
    text.plain = "frame".ljust(MARGIN) + text.plain[MARGIN:]
    return text


def _blocks(panel: Panel, columns: range, wide: int, most: int) -> Iterator[Text]:
    numbered = _numbered(panel, most)
    for i in range(0, len(numbered), 2):
        line = Text().append(_label(numbered, i), "dim")
        upper, lower = numbered[i][1], numbered[i + 1][1] if i + 1 < len(numbered) else {}
        for column in columns:
            line.append(*_half(upper.get(column), lower.get(column), wide))
        yield line


def _half(upper: Cell | None, lower: Cell | None, wide: int) -> tuple[str, Style | None]:
    """Two cells in one line of text."""
    if upper and lower:
        return "▀" * wide, Style(color=_rich(upper), bgcolor=_rich(lower))
    if upper or lower:
        return ("▀" if upper else "▄") * wide, Style(color=_rich(upper or lower))
    return " " * wide, None


def _marks(panel: Panel, columns: range, wide: int, most: int) -> Iterator[Text]:
    numbered = _numbered(panel, most)
    for i, (_, row) in enumerate(numbered):
        yield Text(_label(numbered, i) + "".join((row[c].mark if c in row else " ") * wide for c in columns).rstrip())


def _numbered(panel: Panel, most: int) -> list[tuple[int, Row]]:
    """Rows with the number of the model call they stand before."""
    return [(panel.calls + i, panel.rows[i]) for i in thinned(range(len(panel.rows)), most)]


def _label(numbered: list[tuple[int, Row]], i: int) -> str:
    """The number of the call, at the first row and about every eighth."""
    number = str(numbered[i][0] + 1) if i % 8 == 0 and i < len(numbered) - 1 else ""
    return number.rjust(MARGIN - 2) + "  "


def legend(colour: bool, told: bool) -> Text:
    """What the shades mean."""
    if not colour:
        return Text(
            " " * MARGIN
            + "█▓▒░ noise fading into video   · known from before   rows: model calls, columns: latent frames"
        )
    line = Text(" " * MARGIN)
    for shade in reversed(NOISE):
        line.append("██", Style(color=_hex(shade)))
    line.append("  noise becomes video", "dim")
    line.append("    ██", Style(color=_hex(KNOWN))).append("  known from before", "dim")
    if told:
        line.append("    ██", Style(color=_hex(TOLD))).append("  told beside x", "dim")
    return line


def _rich(cell: Cell | None) -> str | None:
    return None if cell is None else _hex(cell.colour)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
