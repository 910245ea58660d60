"""The files of one part of a checkpoint: a single file, or the shards that an index or their own names list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from longtake.models.checkpoints.disk import PICKLED, WeightsError, brief, check_regular, file_kind, foreign, read_json

SUFFIXES = (".safetensors", ".gguf")
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{2,6})-of-(?P<count>\d{2,6})(?P<suffix>\.\w+)")


def files(path: Path | str) -> list[Path]:
    """Return the weight files of a folder: the shards that its index or their names list, or its only one; a file as it is.

    Raises WeightsError for pickles, for several files that are no shards of one part, and for missing shards.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise WeightsError(
                f"no weights at {path}: give a folder with config.json and safetensors, or a safetensors file"
            )
        check_pickle(path)
        return [path]
    indices = sorted(path.glob("*.safetensors.index.json"))
    found = weight_files(path)
    if indices:
        return shards(indices[0])
    if found and (len(found) == 1 or len(_groups(found)) == 1):
        check_shards(found)
        return found
    if found:
        raise WeightsError(f"{path} holds {brief([f.name for f in found])} and no index: name the one to read")
    pickles = [f.name for f in sorted(path.iterdir()) if f.suffix in PICKLED]
    hint = f", only pickles ({brief(pickles)}): convert them first" if pickles else ""
    raise WeightsError(f"{path} holds no safetensors file{hint}")


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors and GGUF files of a folder in the order of their names."""
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)


def check_pickle(file: Path) -> None:
    """Raise WeightsError for a file that is not regular, or is a pickle by its first bytes or its name."""
    check_regular(file)
    kind = file_kind(file)
    if kind == "pickle" or (file.suffix in PICKLED and kind not in ("safetensors", "gguf")):
        what = foreign(file) or "a pickle by its name, which can run code: convert it to safetensors first"
        raise WeightsError(f"{file} is {what}")


def shards(index: Path) -> list[Path]:
    """Return the files that an index lists. Raises WeightsError for one that is missing, or an index of another form."""
    places = weight_map(index)
    parts = [index.parent / name for name in sorted(set(places.values()))]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise WeightsError(f"{index.parent} lacks {brief(missing)}, which {index.name} lists: fetch them again")
    return parts


def weight_map(index: Path) -> dict[str, str]:
    """Read the table of an index: tensor -> file beside the index. Raises WeightsError."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise WeightsError(f"{index} lists no files: it needs a table weight_map of tensors and their files")
    for name, file in places.items():
        if not isinstance(file, str) or not file or Path(file).name != file:
            raise WeightsError(
                f"{index} states {file!r} as the file of {name}: it must be the name of a file beside it"
            )
    return places


def check_index(found: Sequence[Path], names: Iterable[str]) -> None:
    """Raise WeightsError if the index beside shards lists tensors that are not among their names."""
    if len(found) < 1:
        return
    for index in sorted(found[0].parent.glob("*.safetensors.index.json")):
        places = weight_map(index)
        if {found[0].parent / name for name in places.values()} == set(found):
            have = set(names)
            if lost := [f"{name} ({file})" for name, file in places.items() if name not in have]:
                raise WeightsError(
                    f"{found[0].parent} lacks {len(lost)} tensors that {index.name} lists: {brief(lost)}: fetch these files again"
                )


def check_shards(found: Iterable[Path]) -> None:
    """Raise WeightsError if files named like x-00001-of-00003 do not go from 1 to the number that they state."""
    for (stem, count, suffix), numbers in _groups(found).items():
        total, width = int(count), len(count)
        missing = [
            f"{stem}-{n:0{width}}-of-{count}{suffix}" for n in range(1, min(total, 9999) + 1) if n not in numbers
        ]
        if stem is not None and missing:
            have = brief([f"{n}" for n in sorted(numbers)], 20)
            raise WeightsError(f"there are {total} shards of {stem}, but only {have} here: fetch {brief(missing)}")


def _groups(found: Iterable[Path]) -> dict[tuple[str, str, str], set[int]]:
    """Return the numbers of the shards by what they are shards of; files that are none are left out."""
    groups: dict[tuple[str, str, str], set[int]] = {}
    for file in found:
        if match := _SHARD.fullmatch(file.name):
            groups.setdefault((match["stem"], match["count"], match["suffix"]), set()).add(int(match["number"]))
        else:
            groups.setdefault((file.name, "0", ""), set())
    return groups


def part_files(folder: Path) -> list[Path]:
    """Return the files of one part of a model: its weight files and its config."""
    return [*files(folder), folder / "config.json"]
