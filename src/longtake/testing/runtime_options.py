"""The runtime options of every family: offload, fp8, attention, compile, step caching and LoRA, alone and combined.

Each check opens a contract case again with other `LoadOptions`. A toy model, which has no network, must refuse every
option with a message that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from longtake.core.errors import InputError
from longtake.models.interfaces import Loras
from longtake.models.lora.layers import inject, save
from longtake.models.model import Model
from longtake.models.runtime.calibration import Calibration
from longtake.models.runtime.compile import compile_blocks
from longtake.models.runtime.step_cache import StepCache, caching_sessions, with_session_cache
from longtake.testing.cases import OpenCase, velocity, video

FP8_ERROR, BF16_ERROR, ROUNDING = 0.2, 0.05, 1e-5  # largest relative error of a velocity
EXACT: tuple[Mapping[str, Any], ...] = (  # options that change no bit
    {"offload": "model"}, {"offload": "blocks"}, {"attention": "sdpa"}, {"offload": "blocks", "attention": "sdpa"},
)  # fmt: skip
OFFLOADS = ("none", "model", "blocks")
ALWAYS = Calibration((0.0,), first=1, last=0)  # expects no change, so that any threshold skips every call but the first


def check_refused_options(opened: OpenCase) -> None:
    """A toy model refuses every option; a network refuses a GPU-only attention kernel on a CPU. Messages name them."""
    refused: list[dict[str, Any]] = [{"attention": "flash"}, {"attention": "sage"}]
    if opened.path is None:
        refused += [*map(dict, EXACT), {"fp8": True}, {"compile": True}, {"dtype": "bf16"}, {"step_cache": 0.1}]
    for options in refused:
        name = next(iter(options))
        try:
            opened.load(**options)
        except InputError as error:
            assert f"--{name.replace('_', '-')}" in str(error), f"{options} is refused without being named: {error}"
        else:
            raise AssertionError(f"{options} is accepted, though it cannot work here")


def check_exact_options(opened: OpenCase) -> None:
    """Offloading of modules or of blocks and the default attention backend change no bit of a video."""
    if opened.path is None:
        return
    want = video(opened.case, opened.model)
    for options in EXACT:
        assert torch.equal(video(opened.case, opened.load(**options)), want), f"{options} changes the video"


def check_precision(opened: OpenCase) -> None:
    """bf16 and fp8 stay within their errors; fp8 weights give the same bits wherever they are stored."""
    if opened.path is None:
        return
    want = velocity(opened.model)
    assert relative(velocity(opened.load(dtype="bf16")), want) < BF16_ERROR
    quantized = velocity(opened.load(fp8=True))
    assert 0 < relative(quantized, want) < FP8_ERROR, "fp8 is not within its stated error"
    for offload in OFFLOADS[1:]:
        assert torch.equal(velocity(opened.load(fp8=True, offload=offload)), quantized), f"fp8 with offload {offload}"


def check_compile(opened: OpenCase) -> None:
    """Compiled blocks give the same velocity up to rounding, also streamed in fp8 (with graph capture alone)."""
    if opened.path is None:
        return
    for options in ({}, {"fp8": True, "offload": "blocks"}):
        want, model = velocity(opened.load(**options)), opened.load(**options)
        for net in networks(model):
            compile_blocks(net.blocks, "cpu", backend="eager")  # type: ignore[arg-type]
        assert relative(velocity(model), want) < ROUNDING, f"compile with {options} changes the velocity"


def check_step_cache(opened: OpenCase) -> None:
    """A threshold of 0 skips no call and changes no bit; a large one skips calls, the same ones under offloading."""
    if opened.path is None:
        return
    want = video(opened.case, opened.model)
    exact, caches = cached(opened.model, 0.0)
    assert torch.equal(video(opened.case, exact), want) and not any(cache.skipped for cache in caches)
    found = []
    for offload in OFFLOADS:
        model, caches = cached(opened.load(offload=offload), 1.0)
        found.append(video(opened.case, model))
        assert sum(cache.skipped for cache in caches) > 0, f"a threshold of 1 skips no call (offload {offload})"
    assert found[0].shape == want.shape and all(torch.equal(one, found[0]) for one in found[1:])


def check_lora(opened: OpenCase) -> None:
    """A LoRA changes the video, equally under offloading, is kept by fp8, and is removed bit for bit."""
    if opened.path is None:
        return
    case, plain = opened.case, video(opened.case, opened.model)
    with TemporaryDirectory() as folder:
        loras = ((str(write_lora(opened, Path(folder) / "lora.safetensors")), 1.0),)
        want = video(case, opened.model, loras)
        assert not torch.equal(want, plain), "the LoRA changes nothing"
        assert torch.equal(video(case, opened.model), plain), "the LoRA is not removed"
        for offload in OFFLOADS[1:]:
            assert torch.equal(video(case, opened.load(offload=offload), loras), want), f"LoRA with offload {offload}"
        check_lora_in_fp8(opened, loras)


def check_lora_in_fp8(opened: OpenCase, loras: Loras) -> None:
    """A LoRA changes the velocity of an fp8 network as it changes that of the network in full precision."""
    effects = []
    for model in (opened.load(), opened.load(fp8=True)):
        effects.append(velocity(model, loras=loras) - velocity(model))
    assert relative(effects[1], effects[0]) < 2 * FP8_ERROR, "fp8 loses the LoRA"


RUNTIME_CHECKS: tuple[Callable[[OpenCase], None], ...] = (
    check_refused_options, check_exact_options, check_precision, check_compile, check_step_cache, check_lora,
)  # fmt: skip


# ---------------------------------------------------------------- what they use
def relative(have: Tensor, want: Tensor) -> float:
    """Return the relative difference of two tensors."""
    return float((have - want).norm() / want.norm())


def networks(model: Model) -> list[nn.Module]:
    """Return the networks made of blocks that a model's sessions use."""
    return [session.net for session in caching_sessions(model.session())]


def cached(model: Model, threshold: float) -> tuple[Model, list[StepCache]]:
    """Return the model with step caching, and the list of caches that its sessions will fill."""
    caches: list[StepCache] = []

    def make() -> StepCache:
        caches.append(StepCache(ALWAYS, threshold))
        return caches[-1]

    return with_session_cache(model, make), caches


def write_lora(opened: OpenCase, path: Path) -> Path:
    """Write a LoRA with random factors for the query and value projections of the network."""
    (net, *_) = networks(opened.load())
    inject(net, 2, 2.0, ["to_q", "to_v"])
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if ".up." in name:
                weight.copy_(torch.randn(weight.shape, generator=rng))
    return save(net, path)
