"""Checkpoints from the Hugging Face hub, at a fixed revision: weights and their descriptions, never pickles, never code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model")
IN_FOLDERS = ("*/*.safetensors", "*.json", "*/*.txt", "*/*.model")  # of a pipeline beside which other weights lie loose


class HubError(ValueError):
    """A checkpoint that cannot be had from the hub; the message says what to do."""


@dataclass(frozen=True)
class Offer:
    """What would be downloaded. revision: the commit. bytes: of the files wanted. licence: as its page declares it.

    patterns: of the files wanted.
    """

    repo: str
    revision: str
    files: int
    bytes: int
    licence: str
    patterns: tuple[str, ...] = WANTED


def is_id(name: str) -> bool:
    """Whether a name has the form Organisation/Model."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def fetch(
    repo: str, revision: str | None = None, offline: bool = False, announce: Callable[[Offer], None] | None = None
) -> Path:
    """The folder of a checkpoint at one commit, by which it is named; downloaded unless it is there already.

    offline: only what was downloaded before. announce: told of size and licence before the download; it may raise to
    stop it. HubError says in one sentence why there is no checkpoint.
    """
    hub = _library(repo)
    try:
        if offline:
            return Path(hub.snapshot_download(repo, revision=revision, local_files_only=True))
        found = offer(repo, revision)
        if announce is not None:
            announce(found)
        return Path(hub.snapshot_download(repo, revision=found.revision, allow_patterns=list(found.patterns)))
    except hub.errors.LocalEntryNotFoundError as error:
        raise HubError(
            f"{repo} was not downloaded before and there is no network here: download it elsewhere and give its folder"
        ) from error


def offer(repo: str, revision: str | None = None) -> Offer:
    """What the hub has under that name now."""
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
        raise HubError(
            f"the hub cannot be reached for {repo} ({type(error).__name__}): try again, or give --offline or a folder"
        ) from error
    patterns = _patterns([file.rfilename for file in info.siblings or []])
    wanted = [file for file in info.siblings or [] if any(Path(file.rfilename).match(form) for form in patterns)]
    licence = getattr(info.card_data, "license", None) or "not declared"
    return Offer(repo, info.sha, len(wanted), sum(file.size or 0 for file in wanted), str(licence), patterns)


def _patterns(names: list[str]) -> tuple[str, ...]:
    """A pipeline in folders is whole without the single files that may lie beside it (100 GB in Lightricks/LTX-Video)."""
    loose = any(name.endswith(".safetensors") and "/" not in name for name in names)
    return IN_FOLDERS if loose and "model_index.json" in names else WANTED


def _library(repo: str) -> Any:
    if find_spec("huggingface_hub") is None:
        raise HubError(
            f"there is no folder {repo}; to fetch it from the hub, install huggingface_hub (pip install huggingface_hub)"
        )
    import_module("huggingface_hub.errors")
    return import_module("huggingface_hub")
