"""How a pipeline's model is opened, so that it can be opened again: elsewhere, otherwise, or in another process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch

from longtake.core.options import check_names, declared
from longtake.models import load, locate
from longtake.models.checkpoints.hub import DownloadInfo
from longtake.models.model import Model
from longtake.models.registry import FAMILIES, ModelError, family_of
from longtake.models.runtime.load_options import DTYPES, LoadOptions


class LoadKeywords(TypedDict, total=False):
    """Keyword arguments of `longtake.load`: where the weights come from, and the fields of `LoadOptions`."""

    offline: bool
    revision: str | None
    on_download: Callable[[DownloadInfo], None] | None
    load_options: LoadOptions
    device: str | torch.device
    dtype: str | torch.dtype
    torch_dtype: str | torch.dtype
    offload: Literal["none", "model", "blocks"]
    fp8: bool
    lora_partial: bool
    attention: Literal["auto", "sdpa", "flash", "sage"]
    compile: bool
    step_cache: float
    step_cache_calibration: str | Path | Mapping[str, Any] | None


@dataclass(frozen=True)
class Source:
    """A model by name, and how it is opened."""

    name: str
    options: LoadOptions = field(default_factory=LoadOptions)
    offline: bool = False
    revision: str | None = None
    on_download: Callable[[DownloadInfo], None] | None = None

    @staticmethod
    def of(name: str | Path, keywords: Mapping[str, Any]) -> Source:
        """Sort the keyword arguments of `longtake.load`. SettingsError names one that there is not."""
        check_names(keywords, LoadKeywords.__annotations__, "longtake.load")
        given = {key: value for key, value in keywords.items() if value is not None}
        source = {key: given.pop(key) for key in ("offline", "revision", "on_download") if key in given}
        options = given.pop("load_options", LoadOptions())
        return Source(str(name), options, **source).with_options(**given)

    def with_options(self, **changes: Any) -> Source:
        """Return the source with other fields of `LoadOptions`; None leaves one as it is."""
        values = {key: value for key, value in changes.items() if value is not None}
        if "torch_dtype" in values:
            values.setdefault("dtype", values.pop("torch_dtype"))
        if "device" in values:
            values["device"] = str(values["device"])
        if "dtype" in values:
            values["dtype"] = _dtype(values["dtype"])
        return replace(self, options=replace(self.options, **values))

    def family(self) -> str | None:
        """Return the family of the checkpoint, as far as it is known before a download."""
        if self.name in FAMILIES:
            return self.name
        location = locate(self.name)
        if location.preset is not None:
            return location.preset.family
        return None if location.path is None else family_of(location.path).name

    def open(self) -> Model:
        """Open the model."""
        toy = FAMILIES.get(self.name)
        if toy is not None and not toy.needs_checkpoint:
            return load(self.name)
        return load(
            self.name, offline=self.offline, revision=self.revision, on_download=self.on_download,
            load_options=self.options,
        )  # fmt: skip

    def save(self, model: Model, folder: Path) -> Path:
        """Copy the files of the checkpoint into a new folder. ModelError if it has none, or the folder is not empty."""
        path = model.info.path
        if path is None:
            raise ModelError(f"{model.name} has no files to save")
        if folder.exists() and any(folder.iterdir()):
            raise ModelError(f"{folder} is not empty: save into a new folder")
        if path.is_dir():
            shutil.copytree(path, folder, dirs_exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, folder / path.name)
        return folder


def _dtype(value: Any) -> str:
    """Return the name of a precision here: bf16 for torch.bfloat16, "bfloat16" or "bf16"."""
    names = {long: short for short, long in DTYPES.items()}
    text = str(value).removeprefix("torch.")
    return names.get(text, text)


assert {one.name for one in declared(LoadOptions)} <= set(LoadKeywords.__annotations__), "a load option has no keyword"
