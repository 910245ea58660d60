"""Loading models by name: `load` opens what `--model` accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.models.checkpoints import hub
from longtake.models.checkpoints.hub import DownloadInfo
from longtake.models.family import Family
from longtake.models.locate import CheckpointLocation, builtin, locate
from longtake.models.model import Model
from longtake.models.registry import FAMILIES, ModelError, family_of, register_family

if TYPE_CHECKING:
    from longtake.models.runtime.load_options import LoadOptions

__all__ = ["CheckpointLocation", "ModelError", "builtin", "load", "locate", "register_family"]


def load(
    name: str | Path,
    *,
    offline: bool = False,
    revision: str | None = None,
    on_download: Callable[[DownloadInfo], None] | None = None,
    load_options: LoadOptions | None = None,
    **options: Any,
) -> Model:
    """Load a model by what `--model` accepts.

    name: a built-in or toy model; a folder or file of weights; PRESET=PATH, where the files alone do not say which
    checkpoint they are; a preset, or an id of the hub (Org/Name), fetched at `revision` unless `offline`. on_download:
    called with the size and licence before a download. load_options: how to load and run it; or give single fields of
    `LoadOptions` by keyword (the default device is then the CPU); for a toy model, its own options. Raises ModelError, WeightsError, HubError,
    LoadOptionsError, AttentionError, CompileError or StepCacheError, all of them ValueError.
    """
    from longtake.models.runtime.load_options import LoadOptions

    toy = FAMILIES.get(str(name))
    if toy is not None and not toy.needs_checkpoint:
        return _toy(toy, load_options, options)
    chosen = load_options or LoadOptions(**{"device": "cpu"} | options)
    return chosen.with_step_cache(_load(name, offline, revision, on_download, chosen))


def _load(
    name: str | Path, offline: bool, revision: str | None, on_download: Callable[[DownloadInfo], None] | None,
    load_options: LoadOptions,
) -> Model:  # fmt: skip
    location = locate(str(name))
    if location.repo is None:
        assert location.path is not None
        path, title = location.path, None
    else:
        kept = location.preset.revision if location.preset else None
        path = hub.fetch(location.repo, revision or kept, offline, on_download)
        title = f"{location.repo}@{path.name[:12]}"
    preset, family = location.preset, family_of(path)
    if preset and preset.family != family.name:
        raise ModelError(f"{path} is of the family {family.name}, but {preset.name} of {preset.family}")
    model = family.get("open")(path, load_options, **({"preset": preset} if preset else {}))
    source = f"{preset.name}={path.resolve()}" if preset else ""
    info = replace(model.info, name=title or model.name, builtin=str(name) in builtin(), source=source)
    return replace(model, info=info)


def _toy(family: Family, load_options: LoadOptions | None, options: dict[str, Any]) -> Model:
    """Return a toy model, which has no network. Raises ModelError for an option that needs one."""
    for option in () if load_options is None else load_options.facts():
        if option != "device" or load_options.device != "auto":  # type: ignore[union-attr]
            flag = option.replace("_", "-")
            raise ModelError(f"the toy model {family.name} has no network to use --{flag} with: leave it out")
    return family.get("open")(**options)
