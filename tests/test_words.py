"""The project speaks the field's language: docstrings, comments, help, errors and docs hold none of its private words."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import longtake

SOURCE = Path(longtake.__file__).parent
ROOT = SOURCE.parents[1]
ANY = (
    r"(?:a|an|the|this|that|these|those|each|every|one|its|their|same|next|new|old|first|last|second|whole|of|per|own)"
)
BANNED = [
    r"\btold\b", r"\buntold\b", r"\bcomes to\b", r"\bgoes on from\b", r"\bgo on from\b", r"\bmade anew\b", r"\bmade wide\b",
    r"\bbeside x\b", r"\bno number\b", r"\bas the model sees fit\b", r"\bgrainy\b", r"\bowed\b", r"\bknows? of\b",
    r"\b(?:all|by|of|from|its|the) chance\b", r"\bteller\b", r"\boutlet\b", r"\breels?\b",
    rf"\b{ANY} takes?\b(?! (?:the|a|an|up|in|on|no|its|part|place|as|over|it|them|at|all|\d)\b)", rf"\b{ANY} tape\b", rf"\b{ANY} lots?\b(?! of)", rf"\b{ANY} crew\b",
    rf"\b{ANY} books?\b", rf"\b{ANY} mute\b", rf"\b{ANY} look\b(?! (?:at|like|up|for))", rf"\b{ANY} stock\b(?! )", rf"\b{ANY} spots?\b",
]  # fmt: skip
PRIVATE_NAMES = {"told", "untold", "tape", "reel", "owed", "grainy", "teller", "outlet", "crew", "lot", "lots"}
EMPTY = [r"^See `[\w.]+`\.?$", r"^Undo `state`\.?$"]
DOCS = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "log.md")]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The comments and strings of a Python file that are sentences, with their lines."""
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string):
            for i, line in enumerate(token.string.splitlines()):
                yield token.start[0] + i, re.sub(r"`[^`]*`|\{[^{}]*\}", "_", line)


def found(lines: Iterator[tuple[int, str]], name: str) -> list[str]:
    """Lines that hold a banned expression."""
    wrong = []
    for number, line in lines:
        for banned in BANNED:
            if hit := re.search(banned, line, re.IGNORECASE):
                wrong.append(f"{name}:{number}: {hit.group()!r} in {line.strip()[:100]}")
    return wrong


@pytest.mark.parametrize("room", sorted({path.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py")}))
def test_a_room_speaks_plainly(room):
    place = SOURCE / room
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    wrong = [line for file in files for line in found(prose(file), str(file.relative_to(SOURCE)))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.name)
def test_a_page_speaks_plainly(page):
    wrong = found(enumerate(page.read_text(encoding="utf-8").splitlines(), 1), page.name)
    assert not wrong, "\n".join(wrong)


def test_every_public_function_says_something():
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                said = (ast.get_docstring(node) or "").strip()
                if any(re.fullmatch(empty, said.split("\n")[0] if "\n" not in said else said) for empty in EMPTY):
                    wrong.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}: {said!r}")
    assert not wrong, "\n".join(wrong)


def names(path: Path) -> Iterator[tuple[int, str]]:
    """The identifiers that a Python file writes, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), name


def private(name: str) -> set[str]:
    """The private words in a snake_case or CamelCase name."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)} & PRIVATE_NAMES


def test_no_identifier_holds_a_private_word():
    wrong = [
        f"{path}:{line}: {name}"
        for folder in (SOURCE, ROOT / "tests", ROOT / "bench", ROOT / "examples")
        for path in sorted(folder.rglob("*.py"))
        for line, name in names(path)
        if private(name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["told", "is_told", "CrewLot", "_tape", "TELLER", "lots2"])
def test_a_private_name_would_be_found(name):
    assert private(name)


@pytest.mark.parametrize("name", ["plot", "slot", "pilot_run", "ToldenCrewe"])
def test_a_word_that_only_contains_one_is_no_private_name(name):
    assert not private(name)


def test_a_private_word_would_be_found(tmp_path):
    file = tmp_path / "odd.py"
    file.write_text('x = "the model is told of frames"  # of the take\n')
    assert len(found(prose(file), "odd")) == 2
