"""What a checkpoint contains, from the headers of its files alone: kind, sizes, dtypes, missing and unexpected tensors.

Each family describes its own checkpoints (see `longtake.models.registry.inspect`); here is what they share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.safetensors_headers import Entry, entries, stand_ins
from longtake.models.checkpoints.tensor_names import Names
from longtake.models.family import ReleasedCheckpoint


@dataclass(frozen=True)
class PartReport:
    """One part. dtypes: as the files write them, the most used first. fault: why it would be refused, or ""."""

    name: str
    files: int
    parameters: int
    bytes: int
    dtypes: tuple[str, ...]
    shape: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Report:
    """A checkpoint.

    kind: "" if the files do not state it. presets: the released checkpoints that it may be. notes: remarks for the user.
    kind_description: the kind in a few words. fault: why the checkpoint as a whole would be refused, or "".
    """

    path: str
    family: str
    layout: str
    kind: str
    presets: tuple[str, ...]
    parts: tuple[PartReport, ...]
    missing: tuple[str, ...]
    licence: str
    notes: tuple[str, ...] = ()
    kind_description: str = ""
    fault: str = ""

    @property
    def complete(self) -> bool:
        """Whether it can be opened as it is."""
        faults = [self.fault, *self.missing, *(part.fault for part in self.parts)]
        return bool(self.kind) and not any(faults)

    def facts(self) -> dict[str, Any]:
        """Return the report as a JSON-able object."""
        return {k: v for k, v in asdict(self).items() if k != "kind_description"} | {"complete": self.complete}

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        kind = self.kind_description or self.kind or "unknown"
        lines = [f"{self.path}: {self.family}, {self.layout}", f"kind: {kind}"]
        lines += [f"may be: {', '.join(self.presets)}"] if self.presets else []
        lines += [f"licence: {self.licence}"] if self.licence else []
        for part in self.parts:
            size = f"{part.parameters:,} parameters, {part.bytes / 1e9:.2f} GB, {'/'.join(part.dtypes)}"
            files = f"{part.files} file{'s' if part.files > 1 else ''}"
            lines.append(f"{part.name}: {size}, {files}{', ' + part.shape if part.shape else ''}")
            lines += [f"  does not fit: {part.fault}"] if part.fault else []
        lines += [f"missing: {', '.join(self.missing)}"] if self.missing else []
        lines += [f"refused: {self.fault}"] if self.fault else []
        return [*lines, *self.notes]


def count_part(name: str, files: int, tensors: dict[str, Entry], shape: str = "", fault: str = "") -> PartReport:
    """Count the parameters and bytes of a part by dtype."""
    kinds: dict[str, int] = {}
    for entry in tensors.values():
        kinds[entry.dtype] = kinds.get(entry.dtype, 0) + entry.numel
    total, size = sum(kinds.values()), sum(entry.bytes for entry in tensors.values())
    return PartReport(name, files, total, size, tuple(sorted(kinds, key=lambda k: -kinds[k])), shape, fault)


def compared_part(
    name: str, files: Sequence[Path], names: Names, config: Callable[[], Any], make: Callable[[Any], nn.Module],
    words: Callable[[Any], str] = str, arranged: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> PartReport:  # fmt: skip
    """Count a part, and check its tensors against the network that they should be.

    config: reads its config. words: describes a network by its config. arranged: gives tensors other names and shapes
    after they are read, as loading does.
    """
    shape, fault, tensors = "", "", dict[str, Entry]()
    try:
        tensors = entries(files, names)
        settings = config()
        shape = words(settings)
        weights.check(weights.blank(make, settings), arranged(stand_ins(tensors)))
    except weights.WeightsError as error:
        fault = str(error)
    return count_part(name, len(files), tensors, shape, fault)


def first_fault(*checks: Callable[[], object]) -> str:
    """Return the message of the first check that raises WeightsError, or "" if none does."""
    for check in checks:
        try:
            check()
        except weights.WeightsError as error:
            return str(error)
    return ""


def uncompared_report(path: Path, family: str, fault: str) -> Report:
    """Describe a checkpoint by counting its parts, without comparing them with a network. fault: why it is not compared."""
    folders = [path, *sorted(p for p in path.iterdir() if p.is_dir())] if path.is_dir() else [path]
    parts = []
    for folder in folders:
        if folder.is_file() or weights.weight_files(folder):
            parts.append(_counted(folder, folder.stem if folder != path else "weights"))
    layout = "folder" if path.is_dir() else "single file"
    return Report(str(path), family, layout, "", (), tuple(parts), (), licence_of(path, []), fault=fault)


def _counted(place: Path, name: str) -> PartReport:
    try:
        files = weights.files(place)
        return count_part(name, len(files), entries(files))
    except weights.WeightsError as error:
        return count_part(name, 0, {}, fault=str(error))


def licence_of(path: Path, candidates: Iterable[ReleasedCheckpoint]) -> str:
    """Return the licence that the README of the folder declares, else that of the presets if they agree."""
    card = path / "README.md" if path.is_dir() else path.parent / "README.md"
    if card.is_file():
        stated = dict(
            re.findall(
                r"^(license(?:_name)?):\s*(\S+)", card.read_text(encoding="utf-8", errors="replace")[:5000], re.M
            )
        )
        if stated:
            return stated.get("license_name") or stated["license"]
    declared = {preset.licence for preset in candidates}
    return declared.pop() if len(declared) == 1 else ""
