"""A plan diagram in the terminal: half blocks in colour, two model calls to a line; shade characters without colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.style import Style
from rich.text import Text

from longtake.cli.plan_drawing.diagram import NOISE, Cell, Panel, thinned
from longtake.cli.plan_drawing.diagram import legend as shades_of
from longtake.core.geometry import first_frame

MARGIN = 7  # characters left of a panel, for the number of the model call
Row = dict[int, Cell]


def draw(panels: Sequence[Panel], stride: int, console: Console, most: int = 40) -> Iterator[Text]:
    """Yield the diagram line by line: panels below each other on one time axis, with at most `most` rows each."""
    columns = range(max(panel.columns.stop for panel in panels))
    wide = 2 if MARGIN + 2 * len(columns) <= console.width else 1
    shown = range(min(len(columns), (console.width - MARGIN) // wide))
    colour = console.color_system in ("truecolor", "256") and console.encoding.startswith("utf")
    yield _axis(shown, stride, wide)
    for panel in panels:
        if panel.opening:
            yield Text(" " * MARGIN + "✂ " + panel.opening, "bold magenta")
        yield Text(" " * MARGIN + panel.title, "bold")
        yield from (_blocks if colour else _marks)(panel, shown, wide, most)
    yield Text()
    yield legend(colour, panels)


def _axis(columns: range, stride: int, wide: int) -> Text:
    """Return the axis: the number of the first output frame above its latent frame."""
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
    """Return two cells as one character with its colours."""
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
    """Return rows with the number of the model call that they precede."""
    return [(panel.calls + i, panel.rows[i]) for i in thinned(range(len(panel.rows)), most)]


def _label(numbered: list[tuple[int, Row]], i: int) -> str:
    """Return the number of the model call, at the first row and about every eighth."""
    number = str(numbered[i][0] + 1) if i % 8 == 0 and i < len(numbered) - 1 else ""
    return number.rjust(MARGIN - 2) + "  "


def legend(colour: bool, panels: Sequence[Panel]) -> Text:
    """Return the legend of the shades of these panels."""
    shades = shades_of(panels)
    if not colour:
        keyframes = "   : keyframe" if "keyframes" in shades.values() else ""
        return Text(f"{' ' * MARGIN}█▓▒░ noise to video   · context{keyframes}   rows: steps, columns: latent frames")
    line = Text(" " * MARGIN)
    for shade in reversed(NOISE):
        line.append("██", Style(color=_hex(shade)))
    line.append("  noise becomes video", "dim")
    for shade, text in shades.items():
        line.append("    ██", Style(color=_hex(shade))).append(f"  {text}", "dim")
    return line


def _rich(cell: Cell | None) -> str | None:
    return None if cell is None else _hex(cell.colour)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
