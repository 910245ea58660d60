"""LoRAs of a pipeline under the method names of diffusers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longtake.core.errors import SettingsError
from longtake.core.options import plain

Lora = tuple[str, float]


def lora_pairs(loras: Any) -> list[Lora]:
    """Return files and strengths of {file: strength}, or of a list of files and (file, strength)."""
    if loras is None:
        return []
    if isinstance(loras, str | Path):
        loras = [loras]
    found = loras.items() if isinstance(loras, Mapping) else loras
    if not isinstance(found, Sequence) and not isinstance(loras, Mapping):
        raise SettingsError(f"loras is {{file: strength}} or a list of files, not {loras!r}")
    pairs = [(one, 1.0) if isinstance(one, str | Path) else one for one in found]
    for pair in pairs:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], str | Path):
            raise SettingsError(f"loras is {{file: strength}} or a list of files, not {loras!r}")
    return [(str(file), _strength(file, strength)) for file, strength in pairs]


def _strength(name: object, value: Any) -> float:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingsError(f"the strength of {name} must be a number such as 0.8, not {value!r}")
    return float(value)


class LoraMethods:
    """What diffusers calls to use LoRAs. They are merged in float32 when a scene begins, and undone bit for bit after."""

    loras: dict[str, Lora]

    def load_lora_weights(
        self, file: str | Path, adapter_name: str | None = None, weight: float = 1.0, *, weight_name: str | None = None
    ) -> None:
        """Use a LoRA file in the following calls. adapter_name: the name for `set_adapters` (None: that of the file).

        weight_name: the file's name, where `file` is a folder. The file is read, and checked against the network, by the
        next call. SettingsError if there is no such file.
        """
        if not isinstance(file, str | Path):
            raise SettingsError(
                f"a LoRA is a safetensors file, not a {type(file).__name__}: save tensors to a file first"
            )
        path = Path(file) if weight_name is None else Path(file) / weight_name
        if path.is_dir():
            raise SettingsError(f"{path} is a folder: name the file in it, with weight_name or in the path")
        if not path.exists():
            raise SettingsError(f"there is no LoRA at {path}: check the path, and download one from the hub first")
        self.loras[adapter_name or path.stem] = (str(path), _strength(path, weight))

    def set_adapters(self, names: str | Sequence[str], adapter_weights: float | Sequence[float] | None = None) -> None:
        """Use exactly these loaded LoRAs, with these strengths. SettingsError names one that is not loaded."""
        names = _names(names)
        given: Any = plain(adapter_weights)
        several = isinstance(given, list | tuple) or getattr(given, "ndim", None) == 1
        weights: list[Any] = list(given) if several else [given] * len(names)
        if len(weights) != len(names):
            raise SettingsError(f"there are {len(names)} adapters, but {len(weights)} weights")
        self._check_loaded(names)
        old = {name: (file, 0.0) for name, (file, _) in self.loras.items()}
        chosen = {
            name: (self.loras[name][0], self.loras[name][1] if w is None else _strength(name, w))
            for name, w in zip(names, weights)
        }
        self.loras = old | chosen

    def get_active_adapters(self) -> list[str]:
        """Return the names of the LoRAs whose strength is not 0."""
        return [name for name, (_, strength) in self.loras.items() if strength]

    def delete_adapters(self, names: str | Sequence[str]) -> None:
        """Forget loaded LoRAs by name. SettingsError names one that is not loaded."""
        names = _names(names)
        self._check_loaded(names)
        self.loras = {name: lora for name, lora in self.loras.items() if name not in names}

    def _check_loaded(self, names: Sequence[str]) -> None:
        if missing := [name for name in names if name not in self.loras]:
            raise SettingsError(
                f"no LoRA called {missing[0]!r} is loaded; loaded are: {', '.join(self.loras) or 'none'}"
            )

    def unload_lora_weights(self) -> None:
        """Use no LoRA in the following calls."""
        self.loras = {}

    def fuse_lora(self, lora_scale: float = 1.0) -> None:
        """Scale the loaded LoRAs. Merging itself needs no call: LoRAs are always merged while they are used."""
        self.loras = {name: (file, strength * lora_scale) for name, (file, strength) in self.loras.items()}

    def unfuse_lora(self) -> None:
        """Do nothing: a merged LoRA is undone bit for bit when no scene uses it."""

    def all_loras(self, more: Any = ()) -> list[Lora]:
        """Return files and strengths of the loaded LoRAs, and those of one call over them."""
        loaded: dict[str, float] = {}
        for file, strength in self.loras.values():
            if strength:  # one file under two names counts twice, as in diffusers
                loaded[file] = loaded.get(file, 0.0) + strength
        return list((loaded | dict(lora_pairs(more))).items())


def _names(names: Any) -> list[str]:
    """Return one name or several as a list. SettingsError for anything else."""
    found = [names] if isinstance(names, str) else names
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        raise SettingsError(f"LoRAs are named by a text or a list of texts, not {names!r}")
    return list(found)
