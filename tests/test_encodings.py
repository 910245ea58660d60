"""Text files are UTF-8 whatever the locale of the user is: every call that opens one says so."""

import ast
from collections.abc import Iterator
from pathlib import Path

import longtake

SOURCE = Path(longtake.__file__).parent
TEXT = {"read_text": 0, "write_text": 1}  # methods of a path, and the arguments that come before the encoding


def without_encoding(code: str) -> Iterator[int]:
    """The lines of calls that open a text file in the encoding of the locale."""
    for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
        if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
            continue
        if isinstance(call.func, ast.Attribute) and TEXT.get(call.func.attr) == len(call.args):
            yield call.lineno
        elif isinstance(call.func, ast.Name) and call.func.id == "open":
            mode = call.args[1] if len(call.args) > 1 else ast.Constant("r")
            if isinstance(mode, ast.Constant) and "b" not in str(mode.value):
                yield call.lineno


def test_every_text_file_is_opened_as_utf_8():
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_one_in_the_locale_would_be_found():
    code = 'open(a)\nopen(a, "w")\nopen(a, "rb")\np.read_text()\np.write_text(t)\np.read_text("utf-8")\nread_text(p)'
    assert list(without_encoding(code)) == [1, 2, 4, 5]
