"""Checkpoints in the cache of the Hugging Face hub: at which commit they are there, and how much of a download is.

The layout is that of `huggingface_hub`: `models--ORG--NAME` with `refs/NAME` (a commit), `snapshots/COMMIT` and `blobs`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from longtake.core.platform import delete_file

PIN = "longtake"  # the reference that names the commit of the first download, which later ones keep
COMMIT = re.compile(r"[0-9a-f]{40}")


def pinned(repo: str) -> str | None:
    """Return the commit that the first download of a repository named, or the one of `main` in the cache."""
    for name in (PIN, "main"):
        with suppress(OSError, UnicodeDecodeError):
            if COMMIT.fullmatch(found := (_folder(repo) / "refs" / name).read_text(encoding="utf-8").strip()):
                return found
    return None


def pin(repo: str, commit: str) -> None:
    """Record the commit of a download that begins. An interrupted one is continued at the same commit."""
    path = _folder(repo) / "refs" / PIN
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(commit, encoding="utf-8", newline="\n")


def complete(repo: str, commit: str, wanted: Callable[[list[str]], Iterable[str]]) -> Path | None:
    """Return the folder of a commit if all files that are loaded are in it, else None.

    wanted: the names of all files of the repository -> those that are loaded. Without the list of files that the hub's
    library keeps (its older versions kept none), a folder with weights is complete if no file of it is unfinished.
    """
    folder = _folder(repo) / "snapshots" / commit
    if find_spec("huggingface_hub") is None or not folder.is_dir():
        return None
    names = _listed(repo, commit)
    if names is None:
        whole = any(folder.rglob("*.safetensors")) and not any(_parts(repo))
    else:
        whole = all((folder / name).is_file() for name in wanted(names))
    return folder if whole else None


def stored_bytes(repo: str, commit: str) -> int:
    """Return how many bytes of a commit are on the disk, those of unfinished files included."""
    total = 0
    for path in (*(_folder(repo) / "snapshots" / commit).rglob("*"), *_parts(repo)):
        with suppress(OSError):  # a file that was finished or removed meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def remove_parts(repo: str) -> None:
    """Remove unfinished files. No later download continues them: each names its parts anew."""
    for path in _parts(repo):
        with suppress(OSError):
            delete_file(path)


def cache_root() -> Path:
    """Return the folder of all repositories. ImportError without huggingface_hub."""
    return Path(import_module("huggingface_hub.constants").HF_HUB_CACHE).expanduser()


def _folder(repo: str) -> Path:
    if find_spec("huggingface_hub") is None:
        return Path("models--none")
    return cache_root() / f"models--{repo.replace('/', '--')}"


def _parts(repo: str) -> Iterable[Path]:
    return (_folder(repo) / "blobs").glob("*.incomplete")


def _listed(repo: str, commit: str) -> list[str] | None:
    """Return the names of all files of a commit, as the library listed them at its download; None if it did not."""
    hub = import_module("huggingface_hub")
    try:
        return [file.path for file in hub.get_cached_repo_tree(repo, revision=commit)]
    except (AttributeError, hub.errors.CachedRepoTreeNotFoundError):
        return None
