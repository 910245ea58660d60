"""How a model is loaded and run: device, precision, offloading, attention kernel, compilation and step caching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from longtake.core.errors import InputError
from longtake.core.options import MEMORY, QUALITY, check_values, option

if TYPE_CHECKING:
    import torch

    from longtake.models.runtime.step_cache import AnyModel

Offload = Literal["none", "model", "blocks"]
OFFLOADS: tuple[Offload, ...] = ("none", "model", "blocks")
DTYPES: Mapping[str, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # flag -> name in torch


class LoadOptionsError(InputError):
    """A device or a loading option that cannot be used; the message names the accepted values."""


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model.

    dtype: of the transformer and the text encoder. offload: "model" moves the text encoder, transformer, image encoder
    and VAE to the device in turns; "blocks" also moves the transformer's blocks one by one; both keep the output equal.
    fp8: weight matrices of the blocks are stored as float8 with one scale per row. lora_partial: apply what fits of a LoRA. attention: see `runtime.attention`.
    step_cache_calibration: what `Calibration.facts` gives, or the file that holds it.
    """

    device: str = option("auto", "Device: auto (a GPU if there is one), cpu, cuda or cuda:N.", MEMORY)
    dtype: str = option(
        "auto", "Precision of the transformer and text encoder (auto: bf16 on GPU, fp32 on CPU). The VAE runs in fp32.",
        MEMORY, choices=("auto", "fp32", "bf16", "fp16"),
    )  # fmt: skip
    offload: str = option(
        "none", "Keep idle weights in host memory: whole idle models (model), or also idle transformer blocks (blocks). Frames stay the same.",
        MEMORY, choices=OFFLOADS,
    )  # fmt: skip
    fp8: bool = option(
        False, "Store the transformer's matrices in 8 bits: half the memory, slightly different frames.", MEMORY
    )
    lora_partial: bool = option(
        False, "Apply LoRAs that fit the model only in part, and say which of their tensors are left out.", QUALITY
    )
    attention: str = option(
        "auto", "Attention kernel (auto: flash on a GPU if installed, else sdpa; sage computes in 8 bits).", QUALITY,
        choices=("auto", "sdpa", "flash", "sage"),
    )  # fmt: skip
    compile: bool = option(False, "Compile the transformer with torch.compile: faster after a slow start.", QUALITY)
    step_cache: float = option(
        0.0,
        "Step caching (TeaCache) threshold, such as 0.2: skips model calls and changes frames slightly; 0 is off.",
        QUALITY,
    )
    step_cache_calibration: Mapping[str, Any] | None = option(
        None, "Step caching calibration of this model, written by `python -m longtake.eval.step_cache`.", QUALITY,
        kind="Path",
    )  # fmt: skip

    def __post_init__(self):
        check_values(self, LoadOptionsError)
        if self.dtype not in ("auto", *DTYPES):
            raise LoadOptionsError(f"--dtype must be auto, {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.offload not in OFFLOADS:
            raise LoadOptionsError(f"--offload must be one of {', '.join(OFFLOADS)}, not {self.offload!r}")
        if not self.step_cache >= 0:
            raise LoadOptionsError(f"--step-cache must be 0 or more, not {self.step_cache}")
        if isinstance(self.step_cache_calibration, str | Path):
            from longtake.models.runtime.calibration import Calibration

            object.__setattr__(
                self, "step_cache_calibration", Calibration.read(Path(self.step_cache_calibration)).facts()
            )
        if self.step_cache_calibration is not None and not self.step_cache:
            raise LoadOptionsError("--step-cache-calibration needs --step-cache THRESHOLD: give both, such as 0.2")

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The requested precision, or None for auto."""
        import torch

        return None if self.dtype == "auto" else getattr(torch, DTYPES[self.dtype])

    def facts(self) -> dict[str, Any]:
        """Return the fields that a resume needs, as JSON values: those that differ from a plain model on the CPU."""
        values = vars(self) | {"device": resolve_device(self.device).split(":")[0]}
        return {name: value for name, value in values.items() if value != getattr(ON_CPU, name)}

    def with_step_cache(self, model: AnyModel) -> AnyModel:
        """Return the model with the requested step caching. StepCacheError if the model has none."""
        from longtake.models.runtime.step_cache import Calibration, with_step_cache

        calibration = self.step_cache_calibration
        return with_step_cache(
            model, self.step_cache, None if calibration is None else Calibration.from_facts(calibration)
        )


ON_CPU = LoadOptions("cpu")


def resolve_device(name: str) -> str:
    """Return the torch device for a name; auto is a GPU if there is one. LoadOptionsError lists what this machine has."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    kind, _, number = name.partition(":")
    if kind == "mps":
        raise LoadOptionsError("--device mps: the GPU of a Mac is not supported: use --device cpu")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or name == "cpu:":
        raise LoadOptionsError(f"--device must be auto, cpu, cuda or cuda:N, not {name!r}")
    if kind == "cuda" and int(number or 0) >= count:
        from longtake.models.runtime.unused_gpu import unused_gpu

        here = f"there are {count} GPUs" if count else unused_gpu() or "PyTorch sees no GPU here"
        raise LoadOptionsError(f"--device {name}: {here}; or use --device {f'cuda:{count - 1}' if count else 'cpu'}")
    return "cpu" if kind == "cpu" else name
