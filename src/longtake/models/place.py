"""Where the weights of a model lie and how they are gone through: on which device, in which numbers, by what kernels.

Offload keeps weights in host memory. "model": text encoder, network, image encoder and codec take turns on the device.
"blocks": so do the blocks of the network, each brought while the one before it computes. The numbers stay the same. See `turns` and `blocks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from longtake.models.cache import Rule, cached

if TYPE_CHECKING:
    from longtake.models.base import Model

Offload = Literal["none", "model", "blocks"]
OFFLOADS: tuple[Offload, ...] = ("none", "model", "blocks")
DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OURS = ("cache", "rule")  # what is put around a model that is loaded


class PlaceError(ValueError):
    """A device or a way of keeping weights that is not there; the message says what is."""


@dataclass(frozen=True)
class Place:
    """What was asked for. device: auto, cpu, cuda or cuda:N. dtype: auto, fp32, bf16 or fp16. fp8: see `fp8`.

    attention: see `attention.choose`. compile: see `fuse`. cache: the threshold of step caching, 0 for none, and rule:
    what a calibration wrote for it (see `cache`).
    """

    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"
    fp8: bool = False
    attention: str = "auto"
    compile: bool = False
    cache: float = 0.0
    rule: Mapping[str, Any] | None = None

    def __post_init__(self):
        if self.dtype not in ("auto", *DTYPES):
            raise PlaceError(f"--dtype is auto, {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.offload not in OFFLOADS:
            raise PlaceError(f"--offload is one of {', '.join(OFFLOADS)}, not {self.offload!r}")
        if self.rule is not None and not self.cache:
            raise PlaceError("--cache-rule says how to cache: give --cache too, the threshold up to which")

    def options(self) -> dict[str, Any]:
        """What differs from a model that lies on the CPU as it is, as options of `load`. PlaceError."""
        told = {name: value for name, value in self._differing(device(self.device)).items() if name not in OURS}
        return {**told, "dtype": DTYPES[self.dtype]} if "dtype" in told else told

    def facts(self) -> dict[str, Any]:
        """What a resume needs; empty for a model that lies on the CPU as it is."""
        return self._differing(device(self.device).split(":")[0])

    def cached(self, model: Model) -> Model:
        """The model with the step caching that was asked for. CacheError if it has none."""
        return cached(model, self.cache, None if self.rule is None else Rule.of(self.rule))

    def _differing(self, device: str) -> dict[str, Any]:
        asked, own = vars(self) | {"device": device}, vars(Place("cpu"))
        return {name: value for name, value in asked.items() if value != own[name]}


def device(name: str) -> str:
    """The device of that name, auto being a GPU if there is one. PlaceError says which there are."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or name == "cpu:":
        raise PlaceError(f"--device is auto, cpu, cuda or cuda:N, not {name!r}")
    if kind == "cuda" and int(number or 0) >= count:
        here = f"there are {count} GPUs" if count else "PyTorch sees no GPU here"
        raise PlaceError(f"--device {name}: {here}: use --device {f'cuda:{count - 1}' if count else 'cpu'}")
    return "cpu" if kind == "cpu" else name
