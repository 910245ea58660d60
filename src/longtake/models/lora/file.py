"""The tensors of a LoRA file, sorted by module and kind, and the PEFT settings that it was trained with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from longtake.models.checkpoints.disk import json_object
from longtake.models.checkpoints.loading import WRAPPERS, WeightsError, files, read_file, read_json, rename
from longtake.models.checkpoints.safetensors_headers import metadata
from longtake.models.lora.key_formats import METADATA, split_key, without_prefixes
from longtake.models.training_runs import lora_of_run

UNSUPPORTED = ("use_qalora", "use_bdlora", "layer_replication", "fan_in_fan_out")  # PEFT settings


@dataclass(frozen=True)
class LoraFile:
    """The tensors of a file. modules: module as the file names it -> kind (see `split_key`) -> tensor.

    keys: the names of a module's tensors. unknown: keys that are of no kind, or of one that the module has already.
    settings: the PEFT config.
    """

    path: Path
    modules: dict[str, dict[str, Tensor]]
    keys: dict[str, list[str]]
    unknown: tuple[str, ...]
    settings: Mapping[str, Any]

    @staticmethod
    def read(path: Path) -> LoraFile:
        """Read a file, a folder, or the folder of a training run of a LoRA."""
        found = files(lora_of_run(path))
        modules: dict[str, dict[str, Tensor]] = {}
        keys: dict[str, list[str]] = {}
        unknown = []
        for file in found:
            for key, stored in read_file(file).items():
                module, kind = split_key(rename(key, WRAPPERS[:1]) or key)
                if kind is None or kind in modules.get(module, {}):
                    unknown.append(key)
                    continue
                modules.setdefault(module, {})[kind] = stored if isinstance(stored, Tensor) else stored.to("cpu", None)
                keys.setdefault(module, []).append(key)
        return LoraFile(path, _without_whole_numbers(path, modules), keys, tuple(unknown), peft_settings(found[0]))

    def scale(self, module: str, network_name: str, rank: int) -> float:
        """Return alpha / rank of a module: alpha from its tensor, else from the settings, else equal to the rank.

        rank: 0 for a change without one, whose scale is 1. Raises WeightsError for an alpha that is not a finite number.
        """
        if not rank:
            return 1.0
        if "alpha" in self.modules[module]:
            alpha = self.modules[module]["alpha"]
            value = float(alpha) if alpha.numel() == 1 else math.nan
        else:
            patterns, names = self.settings.get("alpha_pattern") or {}, (without_prefixes(module), network_name)
            matches = (a for p, a in patterns.items() if any(re.fullmatch(rf"(.*\.)?({p})", name) for name in names))
            stated = next(matches, self.settings.get("lora_alpha", self.settings.get("alpha")))
            value = float(rank if stated is None else stated)
        if not math.isfinite(value):
            raise WeightsError(
                f"{self.path}: alpha of {module} is {value}, which is not a finite number: fetch it again"
            )
        return value / math.sqrt(rank) if self.settings.get("use_rslora") else value / rank


def _without_whole_numbers(path: Path, modules: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return the modules. Raise WeightsError if a tensor but alpha holds whole numbers, whose scale is unknown."""
    for module, tensors in modules.items():
        if whole := [kind for kind, one in tensors.items() if kind != "alpha" and not one.is_floating_point()]:
            raise WeightsError(
                f"{path}: the {whole[0]} of {module} is quantised to whole numbers: use a version of the LoRA that is not"
            )
    return modules


def peft_settings(file: Path) -> Mapping[str, Any]:
    """Return the PEFT config in a file's header or in adapter_config.json beside it; empty if there is none.

    Raises WeightsError for a config that cannot be read, or that asks for more than plain LoRA.
    """
    beside = file.parent / "adapter_config.json"
    written: str | None = metadata(file).get(METADATA)
    if not written and file.name == "adapter_model.safetensors" and beside.exists():
        written = json.dumps(read_json(beside))
    try:
        settings = {key.removeprefix("transformer."): value for key, value in json_object(written or "{}").items()}
        patterns = settings.get("alpha_pattern") or {}
        for pattern, alpha in {**patterns, "": settings.get("lora_alpha", settings.get("alpha")) or 1}.items():
            re.compile(pattern)
            float(alpha)
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise WeightsError(f"{file}: the settings of the LoRA cannot be read ({error}): fetch it again") from error
    for key in UNSUPPORTED:
        if settings.get(key):
            raise WeightsError(f"{file} was trained with {key}, which is not supported: only plain LoRA is")
    return settings
