"""The flags that every command which makes video has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from longtake.models.place import Place

Output = Annotated[
    Path | None,
    Parameter(
        name=["--output", "-o"],
        help="Folder for video.mp4, its segments and all that is needed to resume (default: out/ and the prompt).",
    ),
]


def _flag(help: str, **more: Any) -> Parameter:
    return Parameter(help=help, **more)


@dataclass(frozen=True)
class Common:
    """How a video is made, whatever it shows."""

    output: Output = None
    model: Annotated[
        str,
        _flag(
            "A built-in model, a world, the folder of a checkpoint (or PRESET=FOLDER), a released checkpoint by name, or an "
            "id of the hub. `longtake models` lists them."
        ),
    ] = "pocket"
    offline: Annotated[bool, _flag("Download nothing.")] = False
    plan: Annotated[
        str | None,
        _flag("The strategy for long video (default: what suits the model). `longtake plan` lists them."),
    ] = None
    seed: Annotated[int, _flag("Equal seeds make equal videos.")] = 0
    size: Annotated[
        str | None,
        _flag("HEIGHTxWIDTH in pixels (default: the model's; turned if the given picture is portrait or landscape)."),
    ] = None
    fps: Annotated[float | None, _flag("Frames per second, if the model can make others than its own.")] = None
    guidance: Annotated[
        float | None, _flag("How much the prompt counts (1: as the model sees fit, and twice as fast).")
    ] = None
    negative: Annotated[str | None, _flag("What should not be seen.")] = None
    lora: Annotated[
        tuple[str, ...],
        _flag(
            "A LoRA for all scenes, as FILE or FILE=STRENGTH; may be given again. A .toml script names those of a scene.",
            negative=(),
        ),
    ] = ()
    solver: Annotated[Literal["euler", "unipc", "stochastic"] | None, _flag("How the steps are taken.")] = None
    device: Annotated[str, _flag("auto (a GPU if there is one), cpu, cuda or cuda:N.")] = "auto"
    dtype: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        _flag("Of network and text encoder (auto: bf16 on a GPU, fp32 on a CPU); the codec is always fp32."),
    ] = "auto"
    offload: Annotated[
        Literal["none", "model", "blocks"],
        _flag(
            "What waits in host memory: nothing, the parts of the model that are not at work, or the network's blocks too."
        ),
    ] = "none"
    fp8: Annotated[
        bool, _flag("Keep the network's matrices in 8 bits: half of the memory of bf16, slightly other frames.")
    ] = False
    attention: Annotated[
        Literal["auto", "sdpa", "flash", "sage"],
        _flag(
            "Of the network (auto: flash-attn on a GPU if it is installed, else PyTorch's; sage computes in 8 bits)."
        ),
    ] = "auto"
    compile: Annotated[bool, _flag("Let torch.compile fuse the network's layers: the same frames up to rounding.")] = (
        False
    )
    cache: Annotated[
        float,
        _flag(
            "Leave out calls that would change little: how much change may add up, such as 0.2. Faster, and not the same "
            "frames (0: make every call)."
        ),
    ] = 0.0
    cache_rule: Annotated[
        Path | None,
        _flag("What `python -m longtake.eval.caching MODEL -o FILE` wrote, for networks of no published size."),
    ] = None
    threads: Annotated[
        int | None,
        _flag("Of the processor (default: all, at most 4). Part of what decides the last bit, so resume keeps it."),
    ] = None
    dry_run: Annotated[bool, _flag("Show the plan and its cost, make nothing.")] = False
    format: Annotated[Literal["text", "json"], _flag("json prints one event per line.")] = "text"

    def place(self) -> Place:
        """Where the weights lie, and how they are gone through. PlaceError or CacheError say what cannot be."""
        from longtake.models.cache import Rule
        from longtake.models.place import Place

        rule = Rule.read(self.cache_rule).facts() if self.cache_rule else None
        return Place(
            self.device, self.dtype, self.offload, self.fp8, self.attention, self.compile, self.cache, rule
        )  # fmt: skip
