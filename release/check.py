"""Build the wheel and the source distribution, and try them as a stranger would, outside of the checkout.

    python release/check.py [--python python3.12] [--torch-index URL] [--dist dist]     (or `make release-check`)

Everything that is installed besides PyTorch is compared with the SHA-256 in release/requirements.txt. The folder `dist` then holds both
distributions, a bill of materials (CycloneDX) and SHA256SUMS. Exits with 1 and one line that says what is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import sbom
import third_parties

ROOT = third_parties.ROOT
PROMPT = "a red ball drifts to the right over the sea"


class Wrong(Exception):
    """Something about the release that is not as it should be."""


def main() -> int:
    """Run all checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter of the new environment")
    parser.add_argument(
        "--torch-index", default="", help="index that has PyTorch's build for this machine, besides pip's own"
    )
    parser.add_argument(
        "--dist", type=Path, default=ROOT / "dist", help="folder of the result; what lies in it is removed"
    )
    chosen = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="release-check-") as scratch:
            release(chosen, Path(scratch))
    except (Wrong, subprocess.CalledProcessError) as error:
        print(f"release check failed: {error}", file=sys.stderr)
        return 1
    return 0


def release(chosen: argparse.Namespace, scratch: Path) -> None:
    """Build, look into the files, install, generate, verify, list."""
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)

    wheel, source = build(chosen.dist)
    say(
        f"built {wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB) and {source.name} ({source.stat().st_size / 1e6:.1f} MB)"
    )
    say(
        f"{compare_wheel(wheel)} files in the wheel and {compare_source(source)} in the source distribution, no more and no less than in git"
    )
    python = install(chosen.python, wheel, scratch, chosen.torch_index)
    say("installed into an empty environment, with hashes; pip check finds nothing")
    say(f"{compare_weights(python)} weight files have their SHA-256")
    generate(python.parent / "longtake", scratch)
    say("generated one second, and verified it")
    bill = chosen.dist / f"{wheel.name.split('-py3')[0]}.cdx.json"
    say(f"{sbom.write(python, bill)} components in {bill.name}")
    files = sorted(path for path in chosen.dist.iterdir() if path.name != "SHA256SUMS")
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (chosen.dist / "SHA256SUMS").write_text(sums, encoding="utf-8")
    print(sums, end="")


# ---------------------------------------------------------------- the distributions
def build(dist: Path) -> tuple[Path, Path]:
    """Build the source distribution, and from it the wheel."""
    shutil.rmtree(dist, ignore_errors=True)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist)], ROOT)
    return next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))


def tracked(folder: str = ".") -> set[str]:
    """The files of a folder that git has, as paths from the root of the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return set(filter(None, listed.stdout.split("\0")))


def compare_wheel(wheel: Path) -> int:
    """Compare the files of the wheel with src/longtake in git; return how many there are."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        for name in names:
            if name.startswith("longtake/") and archive.read(name) != (ROOT / "src" / name).read_bytes():
                raise Wrong(f"{name} in the wheel differs from the checkout")
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    should = {path.removeprefix("src/") for path in tracked("src/longtake")}
    should |= {
        f"{info}/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE")
    }
    same("the wheel", names, should)
    return len(names)


def compare_source(source: Path) -> int:
    """Compare the files of the source distribution with all of git; return how many there are."""
    with tarfile.open(source) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()}
    same("the source distribution", names, tracked() | {"PKG-INFO"})
    return len(names)


def same(what: str, names: set[str], should: set[str]) -> None:
    """Raise Wrong if two sets of names differ."""
    if missing := sorted(should - names):
        raise Wrong(f"{what} lacks {', '.join(missing)}")
    if more := sorted(names - should):
        raise Wrong(f"{what} has what git does not have: {', '.join(more)}")


# ---------------------------------------------------------------- the environment
def install(interpreter: str, wheel: Path, scratch: Path, torch_index: str) -> Path:
    """Install the wheel into an empty environment; return its interpreter."""
    run([interpreter, "-m", "venv", str(scratch / "env")], scratch)
    folder = scratch / "env" / ("Scripts" if os.name == "nt" else "bin")
    python = folder / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "install", "--require-hashes", "--no-deps", "-r", str(ROOT / "release" / "requirements.txt")], scratch)
    index = ["--extra-index-url", torch_index] if torch_index else []
    run([*pip, "install", *index, "--retries", "1", "-c", str(ROOT / "constraints.txt"), "torch"], scratch)
    run([*pip, "install", "--no-deps", str(wheel)], scratch)
    run([*pip, "check"], scratch)
    return python


def compare_weights(python: Path) -> int:
    """Compare the installed weights with SHA256SUMS beside them; return how many there are."""
    script = "import longtake, pathlib; print(pathlib.Path(longtake.__file__).parent)"
    package = Path(run([str(python), "-c", script], python.parent, quiet=True).strip())
    if package.is_relative_to(ROOT):
        raise Wrong(f"the environment imports longtake from {package}, not from the wheel")
    lines = (package / "pocket" / "weights" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    for line in lines:
        digest, name = line.split("  ")
        if hashlib.sha256((package / "pocket" / "weights" / name).read_bytes()).hexdigest() != digest:
            raise Wrong(f"{name} has not the digest in SHA256SUMS")
    return len(lines)


def generate(longtake: Path, scratch: Path) -> None:
    """Generate one second of video with the installed command, and verify the run."""
    run([str(longtake), "generate", PROMPT, "--seconds", "1", "--output", "out"], scratch, quiet=True)
    if not (scratch / "out" / "video.mp4").stat().st_size:
        raise Wrong("out/video.mp4 is empty")
    run([str(longtake), "verify", "out"], scratch, quiet=True)


def run(command: list[str], folder: Path, quiet: bool = False) -> str:
    """Run a command in a folder without Python's own variables; return what it prints. quiet: show its output only if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
