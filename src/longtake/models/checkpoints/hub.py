"""Checkpoints from the Hugging Face hub at a fixed revision: weights and their configs, never pickles, never code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from longtake.core.errors import InputError
from longtake.models.checkpoints import hub_cache

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model")
IN_FOLDERS = (
    "*/*.safetensors",
    "*.json",
    "*/*.txt",
    "*/*.model",
)  # for a pipeline in folders with single files beside it


class HubError(InputError):
    """A checkpoint that cannot be downloaded from the hub; the message says what to do."""


class HubUnreachable(HubError):
    """The hub does not answer."""


@dataclass(frozen=True)
class DownloadInfo:
    """A download that is about to start. revision: the commit. files, bytes: of what it loads. licence: as its page states.

    patterns: glob patterns of the files that are loaded.
    """

    repo: str
    revision: str
    files: int
    bytes: int
    licence: str
    patterns: tuple[str, ...] = WANTED


def is_id(name: str) -> bool:
    """Tell whether a name has the form Organisation/Model."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def fetch(
    repo: str,
    revision: str | None = None,
    offline: bool = False,
    on_download: Callable[[DownloadInfo], None] | None = None,
) -> Path:
    """Download a checkpoint at one commit, unless it is in the cache; return its folder, which is named by the commit.

    revision: a commit, branch or tag (None: the commit of the first download, which is recorded; the newest one before
    that). What is complete in the cache is used without asking the hub, but for branches and tags. offline: use only what was downloaded before. on_download: called with size and licence before the download; it may
    raise to stop it. Raises HubError.
    """
    hub = _library(repo)
    if (folder := cached(repo, revision)) is not None:
        return folder
    try:
        if offline:
            return Path(hub.snapshot_download(repo, revision=revision, local_files_only=True))
        found = download_info(repo, revision or hub_cache.pinned(repo))
        if on_download is not None:
            on_download(found)
        if revision is None:
            hub_cache.pin(repo, found.revision)
        return Path(hub.snapshot_download(repo, revision=found.revision, allow_patterns=list(found.patterns)))
    except hub.errors.LocalEntryNotFoundError as error:
        raise HubError(
            f"{repo} was not downloaded before and there is no network here: download it elsewhere and give its folder"
        ) from error


def cached(repo: str, revision: str | None = None) -> Path | None:
    """Return the folder of a checkpoint that is complete in the cache, else None.

    revision: a commit (None: the one of the first download). What a branch or tag names is not known without the hub.
    """
    commit = revision or hub_cache.pinned(repo)
    if commit is None or not hub_cache.COMMIT.fullmatch(commit):
        return None
    return hub_cache.complete(repo, commit, _loaded)


def download_info(repo: str, revision: str | None = None) -> DownloadInfo:
    """Ask the hub what a download would load. Raises HubError."""
    hub = _library(repo)
    try:
        info = hub.HfApi().model_info(repo, revision=revision, files_metadata=True)
    except hub.errors.GatedRepoError as error:
        raise HubError(
            f"{repo} asks for consent: accept its terms on its page, then log in with `hf auth login`"
        ) from error
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        at = f" at revision {revision}" if revision else ""
        raise HubError(f"the hub has no model {repo}{at}, and there is no folder of that name here") from error
    except Exception as error:  # the library lets those of its HTTP client through
        raise HubUnreachable(
            f"there is no folder {repo} (looked in {Path.cwd()}), and the hub cannot be reached for it ({type(error).__name__}): try again, or give --offline or a folder"
        ) from error
    names = [file.rfilename for file in info.siblings or []]
    patterns, loaded = _patterns(names), set(_loaded(names))
    wanted = [file for file in info.siblings or [] if file.rfilename in loaded]
    licence = getattr(info.card_data, "license", None) or "not declared"
    return DownloadInfo(repo, info.sha, len(wanted), sum(file.size or 0 for file in wanted), str(licence), patterns)


def _patterns(names: list[str]) -> tuple[str, ...]:
    """Leave out the single files beside a pipeline in folders, which is complete without them (100 GB in LTX-Video)."""
    loose = any(name.endswith(".safetensors") and "/" not in name for name in names)
    return IN_FOLDERS if loose and "model_index.json" in names else WANTED


def _loaded(names: list[str]) -> list[str]:
    """Return the files of a repository that are loaded."""
    return [name for name in names if any(Path(name).match(form) for form in _patterns(names))]


def _library(repo: str) -> Any:
    if find_spec("huggingface_hub") is None:
        raise HubError(
            f"there is no folder {repo}; to fetch it from the hub, install huggingface_hub (pip install huggingface_hub)"
        )
    import_module("huggingface_hub.errors")
    return import_module("huggingface_hub")
