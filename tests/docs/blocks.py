"""The shell blocks of the README and the docs, and how a test runs those of a page.

A block is marked by a comment on the line before it:

    <!-- test: run --seconds 1 -->   run every `longtake` line in an empty folder, with these arguments in place of its own
    <!-- test: parse -->             only check that the command line understands every `longtake` line
    <!-- test: skip, REASON -->      neither
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import longtake
from longtake.cli import run

ROOT = Path(longtake.__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "log.md")]
BLOCK = re.compile(r"(?:^<!-- test: (?P<mark>[^>]*?) -->\n)?^```sh\n(?P<body>.*?)^```", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """Shell commands of a page. mark: how they are tested."""

    page: Path
    line: int
    mark: str | None
    body: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of each `longtake` line; a line that ends in a backslash goes on."""
        lines = self.body.replace("\\\n", " ").splitlines()
        words = [shlex.split(line, comments=True) for line in lines]
        return [line[1:] for line in words if line and line[0] == "longtake"]


def blocks() -> list[Block]:
    """All shell blocks of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("body"))
            found.append(Block(page, line, match["mark"], match["body"]))
    return found


def kind(block: Block) -> str:
    """The first word of a block's mark."""
    return (block.mark or "").split(",")[0].split(" ")[0]


def changed(arguments: list[str], extra: list[str]) -> list[str]:
    """The arguments of a command with others (`--flag value` each) in place of its own, or added to `generate`."""
    result = list(arguments)
    for flag, value in zip(extra[::2], extra[1::2], strict=True):
        if flag in result:
            result[result.index(flag) + 1] = value
        elif result[0] in ("generate", "extend"):
            result += [flag, value]
    return result


def run_pages() -> list[Path]:
    """The pages with commands to run."""
    return sorted({block.page for block in blocks() if kind(block) == "run"})


def run_page(page: Path, folder: Path, monkeypatch) -> None:
    """Run all `run` blocks of a page, one after the other in one folder."""
    (folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(folder)
    for block in blocks():
        if block.page == page and kind(block) == "run":
            extra = shlex.split((block.mark or "").removeprefix("run"))
            for arguments in block.commands:
                assert run(changed(arguments, extra)) == 0, f"{block}: longtake {shlex.join(arguments)}"
