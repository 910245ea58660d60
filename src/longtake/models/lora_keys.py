"""The names of tensors in LoRA files: what each is, and which parameter of a network it changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longtake.models.weights import Names, rename


@dataclass(frozen=True)
class Spelling:
    """How LoRA files may call the modules of a family.

    names: from the names of other layouts to those of the network. words: parts of such names that hold a "_", which
    kohya also writes between parts. fused: a pattern of modules that stand for several, and what those are called.
    """

    names: Names = ()
    words: tuple[str, ...] = ()
    fused: Sequence[tuple[str, tuple[str, ...]]] = ()


PAIR = re.compile(
    r"(?P<module>.+?)\.(?P<side>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up)(\.\w+)?\.(?P<part>weight|bias)"
)
OTHER = re.compile(r"(?P<module>.+)\.(?P<kind>alpha|diff|diff_b|w_norm|b_norm)")
KINDS = {"diff": "weight", "w_norm": "weight", "diff_b": "bias", "b_norm": "bias", "alpha": "alpha"}
WRAPPERS = re.compile(
    r"(base_model\.model|pipe|dit|transformer|unet|model|diffusion_model)\.|(lora_unet|lora_transformer|lycoris)_"
)


def sorted_out(key: str) -> tuple[str, str | None]:
    """The module of a tensor, and its kind: down, up, up_bias, alpha, weight, bias; None if it is none of these."""
    if pair := PAIR.fullmatch(key):
        side = "down" if pair["side"] in ("lora_A", "lora_down", "lora.down") else "up"
        kind = side if pair["part"] == "weight" else "up_bias" if side == "up" else None
        return pair["module"], kind
    if other := OTHER.fullmatch(key):
        return other["module"], KINDS[other["kind"]]
    return key, None


def unwrapped(module: str) -> str:
    """A module's name without the names of what it was wrapped in."""
    return list(_shells(module))[-1]


def _shells(module: str) -> Iterator[str]:
    """The name, and what is left after each wrapper is taken off."""
    yield module
    while wrapper := WRAPPERS.match(module):
        module = module[wrapper.end() :]
        yield module


def finder(places: Iterable[str], spelling: Spelling) -> Callable[[str], tuple[str, ...]]:
    """A function from a module's name in a file to the parameters that it changes; () if the network has none such."""
    known = set(places)
    parts = {part for name in known for part in name.split(".") if "_" in part} | set(spelling.words)
    longest = sorted(parts, key=len, reverse=True)
    word = re.compile("|".join([*(rf"(?<![^_]){re.escape(part)}(?![^_])" for part in longest), "_"]))

    def one(name: str) -> str | None:
        tries = (rename(f"{name}.weight", spelling.names), rename(name, spelling.names))
        return next((found for found in tries if found in known), None)

    def find(module: str) -> tuple[str, ...]:
        """The modules of the network that a name in a file stands for: none, one, or those that are fused there."""
        dotted = word.sub(lambda m: "." if m[0] == "_" else m[0], unwrapped(module))
        for name in (*_shells(module), *([] if "." in module else [dotted])):
            if found := one(name):
                return (found,)
            for pattern, several in spelling.fused:
                if re.search(pattern, name):
                    all_of = [one(re.sub(pattern, each, name)) for each in several]
                    if all(all_of):
                        return tuple(each for each in all_of if each)
        return ()

    return find


def promised(
    settings: Mapping[str, Any], found: Mapping[str, tuple[str, ...]], modules: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Targets in a file's settings that it has no module of, and modules of the network that it should have and has not.

    A target that ends several module names promises all of them, in every layer; a full name only itself. A file that
    does not say what it was trained on promises every kind of module that it has, in every layer.
    """
    targets = settings.get("target_modules", [])
    if not isinstance(targets, list) or settings.get("layers_to_transform") or settings.get("exclude_modules"):
        return [], []
    have = {module_of(name) for names in found.values() for name in names}
    idle, wanted = [], set() if targets else {any_layer(module) for module in have}
    for target in targets:
        match = [m for m in found if unwrapped(m).endswith((f".{target}", f"_{target.replace('.', '_')}"))]
        exact = [m for m in found if unwrapped(m) in (target, target.replace(".", "_"))]
        if not match and not exact:
            idle.append(target)
        wanted |= {any_layer(module_of(name)) for m in match for name in found[m]}
    return idle, [m for m in modules if any_layer(m) in wanted and m not in have]


def any_layer(module: str) -> str:
    """A module's name with a star for the number of its layer."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", module, count=1)


def module_of(parameter: str) -> str:
    """The module of a weight or bias; a parameter of another name stands for itself."""
    return re.sub(r"\.(weight|bias)$", "", parameter)
