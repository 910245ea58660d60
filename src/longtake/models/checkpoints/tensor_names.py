"""The names of tensors: rules that rename them, and what training tools put before and into them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Names = Sequence[tuple[str, str | Callable[[re.Match], str] | None]]  # pattern and replacement (None: drop the tensor)

PREFIXES = ("model.", "diffusion_model.", "net.", "module.")  # before every name, in any order and number
WRAPPED = (
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)  # anywhere in a name, of torch's wrappers

WRAPPERS: Names = (  # the first rules of a family's table: a network's names without those of its wrappers
    (rf"(?:(?<=\.)|^)(?:{'|'.join(map(re.escape, WRAPPED))})", ""),
    (rf"^(?:{'|'.join(map(re.escape, PREFIXES))})+", ""),
)


def rename(name: str, names: Names) -> str | None:
    """Apply all renaming rules in order; return None if a rule drops the name."""
    for pattern, place in names:
        if place is None:
            if re.search(pattern, name):
                return None
        else:
            name = re.sub(pattern, place, name)
    return name


def unwrapped(name: str) -> str:
    """Return a tensor's name without what training tools put before and into it."""
    return rename(name, WRAPPERS) or name
