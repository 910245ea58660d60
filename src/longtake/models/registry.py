"""The model families, one line each, and their released checkpoints by name.

Importing this module imports no family: what a line refers to is imported when it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from longtake.core.errors import InputError
from longtake.core.files import missing_path
from longtake.core.registry import Registry
from longtake.models.family import Family, Recognition, ReleasedCheckpoint

if TYPE_CHECKING:
    from longtake.models.checkpoints.inspect import Report


LORA_TENSOR = re.compile(r"\blora[_.](A|B|down|up)\b|\b(hada|lokr)_|\.(alpha|dora_scale|diff(_[bm])?)$")


class ModelError(InputError):
    """A model that does not exist or cannot be read; the message says what to do."""


_LINES = (
    Family(
        "wan", "Wan", "Wan 2.1, SkyReels-V2 and Stable Video Infinity",
        {"open": "checkpoint:open_folder", "presets": "presets:PRESETS", "inspect": "layout.inspect:inspect",
         "spec": "cost:spec", "lora_names": "layout.lora_names:KEY_FORMAT", "training": "training:HOOKS", "cases": "cases:CASES"},
        Recognition(pipelines=("SkyReels", "Wan"), lists=True, tensors=(
            r"^(blocks\.\d+\.(attn[12]|self_attn|cross_attn)\.|patch_embedding\.)",
            r"^(en|de)coder\.(conv|down|up|mid|head)",
            r"^(encoder\.block\.|shared\.|token_embedding\.|blocks\.\d+\.(attn\.[qkvo]\.|pos_embedding))",
            r"^(visual\.|vision_model\.|embeddings\.(class|patch|position)_embedding|encoder\.layers\.)",
        )),
    ),
    Family(
        "ltx", "LTX-Video", "LTX-Video 0.9.0 to 0.9.8",
        {"open": "checkpoint:open_folder", "presets": "presets:LTX", "inspect": "inspect:inspect", "spec": "cost:spec",
         "lora_names": "layout.lora_names:KEY_FORMAT", "training": "training:HOOKS", "cases": "cases:CASES"},
        Recognition(pipelines=("LTX",), tensors=(
            r"transformer_blocks\.\d+\.(scale_shift_table$|attn[12]\.|ff\.)", r"^(vae\.)?per_channel_statistics\.",
            r"^(vae\.)?(en|de)coder\.(conv_(in|out)\.conv\.|(down|up)_blocks\.\d+\.(res_blocks|conv)\.|last_)",
        )),
    ),
    Family(
        "clock", "Clock", "every frame shows its number, in black and white cells",
        {"open": "clock:clock", "cases": "cases:CLOCK"}, needs_checkpoint=False, package=f"{__package__}.toy",
    ),
    Family(
        "gauss", "Gaussian", "noise with exactly known statistics",
        {"open": "gaussian:gauss", "cases": "cases:GAUSS"}, needs_checkpoint=False, package=f"{__package__}.toy",
    ),
)  # fmt: skip

FAMILIES: Registry[Family] = Registry(
    "model family", Family, {line.name: line for line in _LINES}, "longtake.families", ModelError
)


def register_family(family: Family) -> None:
    """Add a model family from another package. Raises ModelError if its name is taken, or if it is no `Family`."""
    FAMILIES.register(family.name if isinstance(family, Family) else "?", family)


def toy_families() -> Iterator[Family]:
    """Yield the families that `load` opens by name, without a checkpoint."""
    yield from (line for line in FAMILIES.values() if not line.needs_checkpoint)


# ---------------------------------------------------------------- released checkpoints
def presets() -> Mapping[str, ReleasedCheckpoint]:
    """Return the released checkpoints of all families by name."""
    return {
        name: found for line in FAMILIES.values() if line.has("presets") for name, found in line.get("presets").items()
    }


def preset(name: str) -> ReleasedCheckpoint:
    """Return the preset of that name. Raises ValueError with the nearest name."""
    known = presets()
    if name not in known:
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise ValueError(f"no preset is called {name!r}: {hint}")
    return known[name]


# ---------------------------------------------------------------- recognising a checkpoint
def family_of(path: Path) -> Family:
    """Return the family of a checkpoint: from longtake.json or model_index.json, else from the names of its tensors.

    Raises ModelError or WeightsError.
    """
    from longtake.models.checkpoints.disk import read_json

    own, index = path / "longtake.json", path / "model_index.json"
    if path.is_dir() and own.exists():
        name = _text(own, read_json(own), "family")
    elif path.is_dir() and index.exists():
        name = _of_class(_text(index, read_json(index), "_class_name"))
    else:
        return _of_files(path)
    if name not in FAMILIES:
        raise ModelError(f"{path} is of the family {name!r}, which is unknown here: there are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _text(file: Path, stated: Mapping[str, object], key: str) -> str:
    value = stated.get(key)
    if not isinstance(value, str):
        raise ModelError(f"{file} must state {key} as a text, but has {value!r}: copy the model again")
    return value


def _of_class(pipeline: str) -> str:
    """Return the name of the family of a diffusers pipeline class, or the class name itself if it is unknown."""
    known = FAMILIES.values()
    return next((line.name for line in known if pipeline.startswith(line.recognise.pipelines)), pipeline)


def _of_files(path: Path) -> Family:
    """Recognise files that come without a description by the names of their tensors."""
    from longtake.models.checkpoints.disk import PICKLED, check_regular
    from longtake.models.checkpoints.part_files import check_pickle, weight_files
    from longtake.models.checkpoints.safetensors_headers import header

    if not path.exists():
        raise ModelError(missing_path(path))
    if not path.is_dir():
        check_regular(path)
        if path.suffix == ".toml":
            return next(line for line in FAMILIES.values() if line.recognise.lists)
        check_pickle(path)
    found = weight_files(path) if path.is_dir() else [path]
    if not found:
        pickles = [f.name for f in sorted(path.iterdir()) if f.suffix in PICKLED]
        hint = f", only pickles ({', '.join(pickles)}): run `longtake convert` on each first" if pickles else ""
        raise ModelError(f"{path} is no checkpoint: it has no longtake.json, model_index.json or safetensors{hint}")
    return _of_tensors(path, [name for file in found for name in header(file)])


def _of_tensors(path: Path, names: Iterable[str]) -> Family:
    """Return the family that most of the tensor names belong to. Raises ModelError if they belong to none."""
    from longtake.models.checkpoints.disk import brief
    from longtake.models.checkpoints.tensor_names import unwrapped

    names = list(names)
    if not names:
        raise ModelError(f"{path} holds no tensors: fetch it again, or name another file")
    if all(LORA_TENSOR.search(name) for name in names):
        raise ModelError(f"{path} is a LoRA, which changes a model and is none: give it to --lora beside a --model")
    spelt = {*names, *map(unwrapped, names)}
    counts = {line.name: line.recognise.count(spelt) for line in FAMILIES.values()}
    best = max(counts, key=lambda name: counts[name])
    if not counts[best]:
        titles = ", ".join(line.title for line in FAMILIES.values() if line.recognise.tensors)
        raise ModelError(
            f"{path} holds no known layout of weights: its tensors are named {brief(sorted(names)[:3])}, and those of "
            f"{titles} are named otherwise"
        )
    return FAMILIES[best]


def inspect(path: Path | str, named: ReleasedCheckpoint | None = None) -> Report:
    """Describe a folder, a file of weights or a .toml list from headers alone. Raises WeightsError or ModelError."""
    from longtake.models.checkpoints.inspect import uncompared_report

    path = Path(path)
    line = family_of(path)
    if not line.has("inspect"):
        return uncompared_report(
            path, line.name, f"the family {line.name} does not compare its checkpoints with a network"
        )
    return line.get("inspect")(path, named if named is not None and named.family == line.name else None)
