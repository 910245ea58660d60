"""Write what docs/third-parties.md says of other people's work, and the digests of the weights, from what is installed.

    python release/third_parties.py            write the tables and SHA256SUMS
    python release/third_parties.py --check    exit with 1 and print each line that differs from what is installed

A package counts as installed if its version is that of constraints.txt. tests/docs/test_third_parties.py runs the check.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "third-parties.md"
WEIGHTS = ROOT / "src" / "longtake" / "pocket" / "weights"
SUMS = WEIGHTS / "SHA256SUMS"
# a row of a package that is not installed on Linux without a GPU stays as it was written
ELSEWHERE = {
    "colorama": ("0.4.6", "BSD License", "classifier"),  # on Windows; read from the wheel
}
FIELDS = ("License-Expression", "License")
# the libraries inside PyAV's wheel for Linux on x86-64, whose licence files the wheel lacks: as Debian's copyright file of the same library
# states for the library itself (FFmpeg's: as its own `av.library_meta` states)
LIBRARIES = {
    "libSvtAv1Enc": "BSD-3-Clause-Clear", "libXau": "MIT-open-group", "libasound": "LGPL-2.1-or-later", "libavcodec": "FFmpeg", "libavdevice": "FFmpeg",
    "libavfilter": "FFmpeg", "libavformat": "FFmpeg", "libavutil": "FFmpeg", "libdav1d": "BSD-2-Clause", "libdrm": "MIT",
    "libgmp": "LGPL-3.0-or-later or GPL-2.0-or-later", "libgnutls": "LGPL-2.1-or-later", "libhogweed": "LGPL-3.0-or-later or GPL-2.0-or-later",
    "libmp3lame": "LGPL-2.0-or-later", "libnettle": "LGPL-3.0-or-later or GPL-2.0-or-later", "libopencore-amrnb": "Apache-2.0",
    "libopencore-amrwb": "Apache-2.0", "libopus": "BSD-3-Clause", "libsharpyuv": "BSD-3-Clause", "libswresample": "FFmpeg", "libswscale": "FFmpeg",
    "libunistring": "LGPL-3.0-or-later or GPL-2.0-or-later", "libvpl": "MIT", "libvpx": "BSD-3-Clause", "libwebp": "BSD-3-Clause",
    "libwebpmux": "BSD-3-Clause", "libx264": "**GPL-2.0-or-later**", "libx265": "**GPL-2.0-or-later**", "libxcb": "MIT", "libxcb-shape": "MIT",
    "libxcb-shm": "MIT", "libxcb-xfixes": "MIT",
}  # fmt: skip


# ---------------------------------------------------------------- what is installed
def project() -> dict:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[str, str]:
    """The version of each package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in parsed}


def closure(requirements: Iterable[str]) -> dict[str, metadata.Distribution]:
    """Return the installed packages that requirements need on this machine, directly or not, by name."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        needed = waiting.pop()
        name = canonicalize_name(needed.name)
        for extra in ("", *sorted(needed.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = found.get(name) or metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue
            waiting += [each for each in map(Requirement, found[name].requires or []) if applies(each, extra)]
    return found


def applies(needed: Requirement, extra: str) -> bool:
    """Whether a requirement of a package holds on this machine, with one of its extras or none."""
    return needed.marker is None or needed.marker.evaluate({"extra": extra})


def licence(package: metadata.Distribution) -> tuple[str, str]:
    """Return the licence that a package's metadata declares, and the field that says so."""
    for field in FIELDS:
        stated = (package.metadata.get(field) or "").strip()
        if stated and "\n" not in stated and len(stated) < 150:
            return stated, field
    stated = [each for each in package.metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    return ", ".join(each.split(" :: ")[-1] for each in stated) or "none declared", "classifier"


def version(package: metadata.Distribution) -> str:
    """The version of a package without its build, such as +cpu."""
    return package.version.partition("+")[0]


# ---------------------------------------------------------------- the tables
OF_CUDA = re.compile(
    r"(nvidia|cuda|triton)\b"
)  # come with the CUDA build of PyTorch alone; the page has them by themselves


def packages(requirements: Iterable[str], without: Iterable[str] = ()) -> list[str]:
    """Rows of a table: name, version, licence, the field that declares it."""
    found = {name: (version(each), *licence(each)) for name, each in closure(requirements).items()}
    rows = {name: row for name, row in found.items() if name not in without and not OF_CUDA.match(name)}
    return [f"| {name} | {number} | {stated} | {field} |" for name, (number, stated, field) in sorted(rows.items())]


def run_time() -> list[str]:
    """Every package that `pip install longtake` brings."""
    rows = packages(project()["dependencies"])
    rows += [
        f"| {name} | {' | '.join(row)} |"
        for name, row in ELSEWHERE.items()
        if not any(f"| {name} |" in r for r in rows)
    ]
    return ["| package | version | licence | field |", "|---|---|---|---|", *sorted(rows)]


def optional() -> list[str]:
    """Every further package of the extras that users install, and of transformers."""
    extras = project()["optional-dependencies"]
    wanted = ["transformers", *extras["train"], *extras["data"]]
    rows = packages(wanted, without=closure(project()["dependencies"]))
    return ["| package | version | licence | field |", "|---|---|---|---|", *rows]


def bundled() -> list[str]:
    """Every library in PyAV's wheel, of the wheel for Linux on x86-64: elsewhere the page stays as it is."""
    package = metadata.distribution("av")
    found = [path.name for path in package.files or [] if path.parts[0] == "av.libs"]
    if (
        not found
        or sys.platform != "linux"
        or platform.machine() != "x86_64"
        or "manylinux" not in (package.read_text("WHEEL") or "")
    ):
        return rows_of(PAGE.read_text(encoding="utf-8"), "bundled")
    rows = []
    for file in sorted(found):
        name, number = re.sub(r"-[0-9a-f]{8}(?=\.)", "", file).split(".so.")
        rows.append(f"| {name} | {number} | {LIBRARIES.get(name, 'read its licence, and add it to LIBRARIES')} |")
    return ["| library | version of its interface | licence |", "|---|---|---|", *rows]


def weights() -> list[str]:
    """Every weight file of the package, with its size and SHA-256."""
    rows = [f"| `{name}` | {path.stat().st_size:,} | `{digest}` |" for name, path, digest in digests()]
    return ["| file in `longtake/pocket/weights` | bytes | SHA-256 |", "|---|---|---|", *rows]


def digests() -> Iterator[tuple[str, Path, str]]:
    """The name, path and SHA-256 of every weight file."""
    for path in sorted(WEIGHTS.rglob("*.safetensors")):
        yield path.relative_to(WEIGHTS).as_posix(), path, hashlib.sha256(path.read_bytes()).hexdigest()


def sums() -> str:
    """The text of SHA256SUMS, which `sha256sum -c` reads."""
    return "".join(f"{digest}  {name}\n" for name, _, digest in digests())


TABLES: dict[str, Callable[[], list[str]]] = {
    "run-time": run_time,
    "optional": optional,
    "bundled": bundled,
    "weights": weights,
}


# ---------------------------------------------------------------- the page
def block(name: str) -> re.Pattern[str]:
    """The lines of a table on the page, between its two marks."""
    start = re.escape(f"<!-- {name}: written by release/third_parties.py -->\n")
    return re.compile(rf"(?<={start})(.*?)(?=<!-- end of {name} -->)", re.S)


def rows_of(page: str, name: str) -> list[str]:
    """The lines of a table as the page has them."""
    found = block(name).search(page)
    if found is None:
        raise SystemExit(f"{PAGE} has no table {name!r}")
    return found.group(1).strip().splitlines()


def differences() -> list[str]:
    """Lines that the page or SHA256SUMS lacks or has too many. Packages of another version than pinned are not judged."""
    page, pinned, wrong = PAGE.read_text(encoding="utf-8"), pins(), []
    for name, table in TABLES.items():
        there, should = rows_of(page, name), table()
        wrong += [f"missing in {name}: {row}" for row in should if row not in there and judged(row, pinned)]
        wrong += [f"too many in {name}: {row}" for row in there if row not in should and gone(row, name, pinned)]
    if SUMS.read_text(encoding="utf-8") != sums():
        wrong.append("SHA256SUMS differs from the weights")
    return wrong


def cells(row: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in row.strip("|").split("|")]


def judged(row: str, pinned: dict[str, str]) -> bool:
    """Whether a line has to be on the page: it is not of a package, or of one in its pinned version."""
    name, number = cells(row)[:2]
    return name not in pinned or pinned[name] == number


def gone(row: str, table: str, pinned: dict[str, str]) -> bool:
    """Whether a line of the page is wrong here: its version is not pinned, or that version is installed and differs."""
    if table in ("weights", "bundled"):
        return True
    name, number = cells(row)[:2]
    try:
        return pinned.get(name) != number or version(metadata.distribution(name)) == number
    except metadata.PackageNotFoundError:
        return pinned.get(name) != number


def main(arguments: list[str]) -> int:
    """Write the tables, or check them."""
    if "--check" in arguments:
        wrong = differences()
        print(
            "\n".join([*wrong, "run `python release/third_parties.py`"] if wrong else ["docs/third-parties.md is true"])
        )
        return bool(wrong)
    page = PAGE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        rows_of(page, name)
        page = block(name).sub("\n".join(["", *table(), "", ""]).replace("\\", r"\\"), page)
    PAGE.write_text(page, encoding="utf-8")
    SUMS.write_text(sums(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
