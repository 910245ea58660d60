"""Write release/requirements.txt, -image.txt and -all.txt: every pin with the SHA-256 of each of its files, for all systems.

    python release/lock.py     (or `make lock`, after a dependency or a pin in constraints.txt has changed; needs uv and the network)

constraints.txt stays the list of pins that people edit: pip cannot use hashes in constraints, since one hash there demands one of everything,
of `-e .` too. A package that constraints.txt lacks gets its newest version, which is added there. PyTorch and the packages that only its CUDA build needs
have no hashes: which files those are depends on the index that suits the machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
# PyTorch, and what its CUDA build alone needs
TORCH = re.compile(r"torch|triton|cuda-.*|nvidia-.*")
BROWSER = " ; sys_platform != 'emscripten'"
# the oldest Python that every development tool runs on
PYTHON = "3.11.5"
HEAD = """# Written by release/lock.py (`make lock`): {about}, each with the SHA-256 of its files.
# PyTorch comes from the index that suits the machine, after these: docs/guides/releasing.md has the lines.
"""


def main() -> int:
    """Write the files, and the pins that constraints.txt lacks."""
    needed = compiled("pyproject.toml", "--constraint", "constraints.txt")
    image = compiled("pyproject.toml", "release/requirements-image.in", "--constraint", "constraints.txt")
    every = compiled("pyproject.toml", "--constraint", "constraints.txt", "--all-extras")
    CONSTRAINTS.write_text(with_missing(CONSTRAINTS.read_text(encoding="utf-8"), every), encoding="utf-8")
    pinned = compiled("constraints.txt", "--no-deps")
    write("requirements.txt", "all that longtake needs to run but PyTorch", needed)
    write("requirements-image.txt", "the same and transformers, for the container image", image)
    write("requirements-all.txt", "every pin of constraints.txt but PyTorch", pinned)
    return 0


def compiled(*arguments: str) -> str:
    """The lines of a requirements file for all systems, without PyTorch and without what only a browser needs."""
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--universal",
        "--generate-hashes",
        "--python-version",
        PYTHON,
    ]
    command += ["--no-header", "--no-annotate", "--quiet", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    text = done.stdout.replace(BROWSER, "")
    kept = [entry for entry in entries(text) if not TORCH.fullmatch(name_of(entry)) and "'emscripten'" not in entry]
    return "".join(kept)


def write(name: str, about: str, text: str) -> None:
    """Write a file of this folder."""
    (ROOT / "release" / name).write_text(HEAD.format(about=about) + text, encoding="utf-8")


def entries(text: str) -> list[str]:
    """The entries of a requirements file, each with its hashes."""
    return [entry for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", text) if entry[:1].isalnum()]


def name_of(entry: str) -> str:
    """The name of the package of an entry, in lower case with hyphens."""
    return canonicalize_name(re.split(r"[=\s;\[]", entry, maxsplit=1)[0])


def with_missing(constraints: str, text: str) -> str:
    """Add the pins of a requirements file that constraints.txt lacks, in the order of the alphabet."""
    lines = [line for line in constraints.splitlines() if line.strip()]
    there = {canonicalize_name(Requirement(line).name) for line in lines}
    lines += [entry.split()[0] for entry in entries(text) if name_of(entry) not in there]
    return "".join(f"{line}\n" for line in sorted(lines, key=str.lower))


if __name__ == "__main__":
    raise SystemExit(main())
