"""The names of tensors in LoRA files: what each tensor is, and which parameter of a network it changes.

A new prefix, or a new name for one of the tensors, is one line in a table below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longtake.models.checkpoints.loading import Names, rename

METADATA = "lora_adapter_metadata"  # the header key under which diffusers stores a PEFT config

PREFIXES = (  # that training tools put before a module's name, in any combination
    "base_model.model.",  # PEFT
    "transformer.",  # diffusers
    "unet.",
    "pipe.",  # DiffSynth
    "dit.",
    "model.",  # ComfyUI
    "diffusion_model.",
    "lora_unet__",  # kohya, and tools that write one _ more
    "lora_unet_",
    "lora_transformer__",
    "lora_transformer_",
    "net.",
    "module.",
    "_orig_mod.",
    "lycoris_",  # LyCORIS
)
FACTORS = {  # the low-rank factors: name in the file -> down or up
    "lora_A": "down", "lora_down": "down", "lora.down": "down",
    "lora_B": "up", "lora_up": "up", "lora.up": "up",
}  # fmt: skip
OTHER_KINDS = {  # last part of a tensor's name -> its kind
    "alpha": "alpha",
    "diff": "weight", "w_norm": "weight",  # full differences of a weight
    "diff_b": "bias", "b_norm": "bias",
    "dora_scale": "magnitude", "lora_magnitude_vector": "magnitude",
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},  # LoHa
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},  # LoKr
}  # fmt: skip
MODULATION = "diff_m"  # the full difference of a block's modulation table, which is a parameter of the block itself
MODULATIONS = ("modulation", "scale_shift_table")  # how networks call that table
UNREAD = {  # part of a tensor's name -> the kind of adapter, for the refusal
    "hada_t1": "LoHa of convolutions", "hada_t2": "LoHa of convolutions", "lokr_t2": "LoKr of convolutions",
    "lora_mid": "LoCon with a middle factor", "oft_blocks": "OFT", "oft_diag": "OFT", "oft_R": "OFT", "boft_R": "BOFT",
    "on_input": "IA3", "ia3_l": "IA3", "a1": "GLoRA", "b1": "GLoRA", "set_weight": "replaced weights",
    "reshape_weight": "weights of another shape", "vera_lambda_b": "VeRA", "vera_lambda_d": "VeRA", "lora_embedding_A": "LoRA of embeddings",
    "lora_embedding_B": "LoRA of embeddings",
}  # fmt: skip

_FACTOR_KEY = re.compile(
    rf"(?P<module>.+?)\.(?P<factor>{'|'.join(map(re.escape, FACTORS))})(\.\w+)?\.(?P<part>weight|bias)"
)
_OTHER_KEY = re.compile(rf"(?P<module>.+)\.(?P<kind>{'|'.join(OTHER_KINDS)})(\.default)?(\.weight)?")
_MODULATION_KEY = re.compile(rf"(?P<module>.+)\.{MODULATION}")


@dataclass(frozen=True)
class KeyFormat:
    """How LoRA files may name the modules of a family.

    names: renaming rules from other layouts to the network's names. words: parts of such names that contain a "_",
    which kohya also writes between parts. fused: pattern of a module that stands for several, and the names of those.
    """

    names: Names = ()
    words: tuple[str, ...] = ()
    fused: Sequence[tuple[str, tuple[str, ...]]] = ()


def split_key(key: str) -> tuple[str, str | None]:
    """Split a key into module and kind, or None for anything else.

    The kinds are down, up, up_bias, alpha, weight, bias, magnitude, and those of LoHa and LoKr.
    """
    if pair := _FACTOR_KEY.fullmatch(key):
        factor = FACTORS[pair["factor"]]
        kind = factor if pair["part"] == "weight" else "up_bias" if factor == "up" else None
        return pair["module"], kind
    if table := _MODULATION_KEY.fullmatch(key):
        return f"{table['module']}{'.' if '.' in table['module'] else '_'}{MODULATIONS[0]}", "weight"
    if other := _OTHER_KEY.fullmatch(key):
        return other["module"], OTHER_KINDS[other["kind"]]
    return key, None


def unread_kind(key: str) -> str:
    """Return the kind of adapter that a key belongs to and that is not read, or "" if it is not known."""
    return next((kind for part, kind in UNREAD.items() if f".{part}." in f"{key}."), "")


def without_prefixes(module: str) -> str:
    """Return a module's name without the prefixes of training tools."""
    return list(_stripped(module))[-1]


def _stripped(module: str) -> Iterator[str]:
    """Yield the name, and what remains after each prefix is removed."""
    yield module
    while prefix := next((prefix for prefix in PREFIXES if module.startswith(prefix)), None):
        module = module.removeprefix(prefix)
        yield module


def parameter_finder(parameters: Iterable[str], key_format: KeyFormat) -> Callable[[str], tuple[str, ...]]:
    """Return a function from a module's name in a file to the parameters of the network that it changes.

    The function returns one name, several for modules that are fused in the file, or () if the network has none.
    """
    known = set(parameters)
    parts = {part for name in known for part in name.split(".") if "_" in part} | set(key_format.words)
    longest = sorted(parts, key=len, reverse=True)
    word = re.compile("|".join([*(rf"(?<![^_]){re.escape(part)}(?![^_])" for part in longest), "_"]))

    def one(name: str) -> str | None:
        names = [name]
        if name.split(".")[-1] == MODULATIONS[0]:
            names += [f"{name.removesuffix(MODULATIONS[0])}{other}" for other in MODULATIONS[1:]]
        candidates = (rename(each, key_format.names) for one in names for each in (f"{one}.weight", one))
        return next((found for found in candidates if found in known), None)

    def find(module: str) -> tuple[str, ...]:
        """Return the parameters that a module of a file changes."""
        dotted = word.sub(lambda m: "." if m[0] == "_" else m[0], without_prefixes(module))
        for name in (*_stripped(module), *([] if "." in module else [dotted])):
            if found := one(name):
                return (found,)
            for pattern, several in key_format.fused:
                if re.search(pattern, name):
                    all_of = [one(re.sub(pattern, each, name)) for each in several]
                    if all(all_of):
                        return tuple(each for each in all_of if each)
        return ()

    return find


def missing_modules(
    settings: Mapping[str, Any], found: Mapping[str, tuple[str, ...]], modules: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the targets in a file's settings that none of its modules matches, and the modules that it leaves alone.

    A target that ends several module names stands for all of them, in every layer; a full name only for itself. A file
    without a list of targets is compared with every kind of module that it has, in every layer. found: modules of the
    file and the parameters that each changes. modules: of the network.
    """
    targets = settings.get("target_modules", [])
    if not isinstance(targets, list) or settings.get("layers_to_transform") or settings.get("exclude_modules"):
        return [], []
    have = {module_of(name) for names in found.values() for name in names}
    unmatched, wanted = [], set() if targets else {any_layer(module) for module in have}
    for target in targets:
        ends = (f".{target}", f"_{target.replace('.', '_')}")
        match = [m for m in found if without_prefixes(m).endswith(ends)]
        exact = [m for m in found if without_prefixes(m) in (target, target.replace(".", "_"))]
        if not match and not exact:
            unmatched.append(target)
        wanted |= {any_layer(module_of(name)) for m in match for name in found[m]}
    return unmatched, [m for m in modules if any_layer(m) in wanted and m not in have]


def any_layer(module: str) -> str:
    """Return a module's name with a star in place of its layer number."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", module, count=1)


def module_of(parameter: str) -> str:
    """Return the module of a weight or bias; a parameter of another name stands for itself."""
    return re.sub(r"\.(weight|bias)$", "", parameter)
