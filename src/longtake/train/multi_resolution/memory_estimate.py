"""Memory and cost of training a network on tokens, estimated without weights: a step on PyTorch's meta device.

There every tensor has its shape and no memory, and a tracker counts what is alive; so released networks of any size can be
tried on any machine.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.core.profiling import FlopCounter, MemoryTracker
from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.train.loop_config import LoopConfig
from longtake.train.run.device import DTYPES
from longtake.train.run.optimisers import Muon, make_optimisers
from longtake.train.toml_config import read_table
from longtake.train.weights.families import default_family, hooks_of, training_hooks

GIB = 2**30
WORDS = 256  # text tokens of a prompt, at most


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a run in bytes. parameters: of the network. clips, tokens: of its largest batch.

    held: weights, averaged weights and optimiser state, throughout the run. gradients: of all weights. copies: of the
    weights in the compute dtype. step: peak of forward and backward pass beside those, with the gradients. update: what the
    optimiser needs to move the weights. parts: VAE and text encoder. flops: floating-point operations of a batch.
    """

    parameters: int
    clips: int
    tokens: int
    held: int
    gradients: int
    copies: int
    step: int
    update: int
    parts: int
    flops: float

    @property
    def peak(self) -> int:
        """Peak memory of one process."""
        return self.held + self.parts + max(self.copies + self.step, self.gradients + self.update)


class ShapeAttention(torch.autograd.Function):
    """Attention by shapes alone. As in a flash kernel, it holds inputs, output and one sum per row, and no score matrix."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        q, k, v = ctx.saved_tensors[:3]
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


@contextmanager
def shape_attention(counter: FlopCounter) -> Iterator[None]:
    """Replace attention by `ShapeAttention`, also where layers are recomputed, which no mode of torch reaches."""

    def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        counter.flops += 4 * q.numel() * k.shape[-2]
        return ShapeAttention.apply(q, k, v)

    original = nnf.scaled_dot_product_attention
    nnf.scaled_dot_product_attention = attend  # type: ignore[assignment]
    try:
        yield
    finally:
        nnf.scaled_dot_product_attention = original


@dataclass(frozen=True)
class RunShapes:
    """The shapes of what a run loads: configs of network and VAE, and the bytes of VAE and text encoder in float32."""

    network: Any
    vae: Any
    frozen_bytes: int


def shapes_without_weights(init: str, vae: str, text: str, network: Mapping[str, Any], name: str) -> RunShapes:
    """Return the shapes of what a run loads, without its weights.

    init: a released preset, or a model folder. vae, text: folders of VAE and text encoder ("": those of init). network: the
    table [name], used without init.
    """
    hooks = training_hooks(default_family("token"))
    released = hooks.estimate.released.get(init) if hooks.estimate else None
    if released is not None:
        shapes = released()
        net_config, vae_config, texts = shapes.transformer, shapes.vae, shapes.text_parameters
    else:
        vae_config = weights.configure(hooks.vae.config, Path(vae) if vae else Path(init) / "vae")
        kind = hooks.transformer.config
        net_config = weights.configure(kind, Path(init) / "transformer") if init else read_table(kind, network, name)
    if released is None or text:
        config = T5Config.read(Path(text or init) / "text_encoder")
        texts = _parameters(lambda: T5Encoder(config))
    return RunShapes(net_config, vae_config, 4 * (_parameters(lambda: hooks.vae.make(vae_config)) + texts))


def _parameters(make: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in make().parameters())


def estimate_step(config: Any, loop: LoopConfig, clips: int, tokens: int, parts: int) -> MemoryEstimate:
    """Estimate the memory of steps with so many clips of so many tokens. parts: bytes of VAE and text encoder."""
    with torch.device("meta"):
        net: Any = (
            training_hooks(default_family("token")).transformer.make(config).to(DTYPES[loop.compute.dtype]).train()
        )
    net.checkpointing = loop.compute.checkpointing
    count = sum(weight.numel() for weight in net.parameters())
    half = 0 if loop.compute.dtype == "fp32" else 2 * count
    adamw, muon = optimised_weights(net, loop)
    step, flops = measure_passes(net, clips, tokens)
    return MemoryEstimate(
        parameters=count, clips=clips, tokens=tokens, held=8 * count + 8 * adamw + 4 * muon, gradients=4 * count,
        copies=half, step=step + half, update=4 * adamw + 12 * muon, parts=parts, flops=flops,
    )  # fmt: skip


def optimised_weights(net: nn.Module, loop: LoopConfig) -> tuple[int, int]:
    """Count the weights that AdamW moves, with two state numbers each, and that Muon moves, with one."""
    counts = {Muon: 0, torch.optim.AdamW: 0}
    for optimiser in make_optimisers(net, loop.update.optimiser, loop.update.lr, loop.update.weight_decay):
        counts[type(optimiser)] += sum(w.numel() for group in optimiser.param_groups for w in group["params"])
    return counts[torch.optim.AdamW], counts[Muon]


def measure_passes(net: Any, clips: int, tokens: int, words: int = WORDS) -> tuple[int, float]:
    """Return peak bytes of forward and backward pass of a batch, with gradients, and the operations of both.

    Layers that are recomputed count once more. LookupError if the network's family cannot be estimated.
    """
    hooks = hooks_of(net).estimate
    if hooks is None:
        raise LookupError(f"training a {type(net).__name__} cannot be estimated: its TrainingHooks have no `estimate`")
    gc.collect()
    with (
        torch.device("meta"), MemoryTracker({"meta"}, net.parameters()) as memory, FlopCounter() as counter,
        shape_attention(counter),
    ):  # fmt: skip
        target = torch.empty(clips, tokens, net.config.in_channels)
        velocity = hooks.velocity(net, clips, tokens, words).transpose(1, 2)
        loss = (velocity - target).pow(2).mean(-1).sum()
        forward = counter.flops
        loss.backward()
    return memory.most, float((4 if net.checkpointing else 3) * forward)


def describe(estimate: MemoryEstimate, loop: LoopConfig) -> list[str]:
    """Describe the memory, part by part, in lines."""
    kept = "layers are recomputed" if loop.compute.checkpointing else "checkpointing = true needs less"
    rows = {
        "weights": (estimate.held, f"with averaged weights and the state of {loop.update.optimiser}"),
        "parts": (estimate.parts, "VAE and text encoder, which are not trained"),
        "step": (
            estimate.copies + estimate.step, f"{estimate.clips} clips of {estimate.tokens:,} tokens, {loop.compute.dtype}; {kept}"
        ),
        "update": (estimate.gradients + estimate.update, "gradients and the optimiser's update"),
        "together": (estimate.peak, f"peak of one process; {estimate.flops / 1e12:,.1f} TFLOP a batch"),
    }  # fmt: skip
    return [f"{name:<9} {size / GIB:,.2f} GiB   {what}" for name, (size, what) in rows.items()]
