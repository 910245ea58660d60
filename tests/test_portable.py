"""Linux, macOS and Windows: nothing outside core/platform.py uses what only some of them have, or hangs on their habits."""

import ast
from collections.abc import Iterator
from pathlib import Path

import mypy.api
import pytest

import longtake
from tests.platforms import SYSTEMS, elsewhere, is_missing, stub

ROOT = Path(longtake.__file__).parent
OWNER = ROOT / "core" / "platform.py"
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != OWNER]
THROUGH_PLATFORM = {
    "os.replace": "replace_file waits while a viewer on Windows has the file open",
    "os.rename": "replace_file waits while a viewer on Windows has the file open",
    "os.remove": "delete_file waits while a viewer on Windows has the file open",
    "os.unlink": "delete_file waits while a viewer on Windows has the file open",
    "os.fsync": "sync also flushes the drive's cache on macOS",
    "os.kill": "Windows ends the process whatever the signal is",
    "os.name": "platform.py alone asks for the operating system",
    "sys.platform": "platform.py alone asks for the operating system",
    "platform.system": "platform.py alone asks for the operating system",
}


def used(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield (line, module, name) for what a file takes from the standard library; the name of a whole module is ""."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield node.lineno, each.name, ""
                modules[each.asname or each.name.split(".")[0]] = each.name if each.asname else each.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module, ""
            yield from ((node.lineno, node.module, each.name) for each in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield node.lineno, modules[node.value.id], node.attr


def faults(source: str) -> list[str]:
    """Return what a file uses that another system lacks, or that core/platform.py has a function for."""
    found = []
    for line, module, name in used(ast.parse(source)):
        if f"{module}.{name}" in THROUGH_PLATFORM:
            found.append(f"{line}: {module}.{name}: {THROUGH_PLATFORM[f'{module}.{name}']}")
        if stub(module) is None:
            continue
        for system in SYSTEMS:
            if is_missing(module, system):
                found.append(f"{line}: {module} is missing on {system}")
            elif name in elsewhere(module, system):
                found.append(f"{line}: {module}.{name} is missing on {system}")
    return found


def text_mode(call: ast.Call) -> str:
    """Return the mode in which a call opens or reads a file as text; "" for any other call."""
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if method in ("read_text", "write_text"):
        return method[0]
    place = 0 if method == "open" else 1 if getattr(call.func, "id", "") == "open" else None
    if place is None:
        return ""
    given = [*call.args[place : place + 1], *(each.value for each in call.keywords if each.arg == "mode")]
    mode = str(getattr(given[0], "value", "b")) if given else "r" * place  # x.open() may open anything
    return mode if set(mode) <= set("rwaxt+") else ""


def text_faults(source: str) -> list[str]:
    """Return where text is read or written without naming its encoding, or written with the line ends of the system."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        keywords, mode = {each.arg for each in node.keywords}, text_mode(node)
        if getattr(node.func, "attr", "") == "replace" and len(node.args) == 1 and not keywords:
            found.append(f"{node.lineno}: use platform.replace_file in place of Path.replace")
        if ast.unparse(node.func).startswith("subprocess.") and "text" in keywords and "encoding" not in keywords:
            found.append(f"{node.lineno}: name the encoding= of a process in place of text=True")
        if mode and "encoding" not in keywords:
            found.append(f"{node.lineno}: without encoding= Windows reads and writes text in another one")
        if set(mode) & set("wax+") and "newline" not in keywords:
            found.append(f'{node.lineno}: without newline="\\n" Windows writes other bytes')
    return found


@pytest.mark.parametrize("check", [faults, text_faults])
def test_nothing_hangs_on_the_operating_system(check):
    found = {str(path.relative_to(ROOT)): lines for path in FILES if (lines := check(path.read_text(encoding="utf-8")))}
    assert not found, found


@pytest.mark.long
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_types_hold_on_every_system(system, tmp_path):
    config = str(ROOT.parents[1] / "pyproject.toml")
    found, errors, code = mypy.api.run(
        ["--platform", system, "--config-file", config, "--cache-dir", str(tmp_path), str(ROOT)]
    )
    assert code == 0, found + errors


@pytest.mark.parametrize(
    "line",
    [
        "import fcntl",
        "from resource import getrusage",
        "import msvcrt",
        "import os\nos.fork()",
        "import os\nos.O_DIRECTORY",
        "import os as o\no.geteuid()",
        "import signal\nsignal.SIGHUP",
        "from signal import SIGKILL",
        "import signal\nsignal.CTRL_BREAK_EVENT",
        "import socket\nsocket.AF_UNIX",
        "import os\nos.sched_getaffinity(0)",
        "import os\nos.replace(a, b)",
        "import sys\nsys.platform",
    ],
)
def test_a_use_of_one_system_alone_is_found(line):
    assert faults(line)


@pytest.mark.parametrize(
    "line",
    [
        "path.read_text()",
        'path.write_text(x, encoding="utf-8")',
        "open(path)",
        'open(path, "w", encoding="utf-8")',
        'path.open("a")',
        "draft.replace(path)",
        "subprocess.run(x, text=True)",
    ],
)
def test_text_in_the_encoding_of_the_system_is_found(line):
    assert text_faults(line)


@pytest.mark.parametrize(
    "line",
    [
        'import os\ngetattr(os, "O_BINARY", 0)',
        "import signal\nsignal.SIGTERM",
        'open(path, "rb")',
        'path.read_text(encoding="utf-8")',
        'name.replace("a", "b")',
        "av.open(path)",
        'path.open("r", encoding="utf-8")',
    ],
)
def test_what_every_system_has_is_not_found(line):
    assert not faults(line) + text_faults(line)
