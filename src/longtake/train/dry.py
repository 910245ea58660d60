"""What a `mixed` run takes, told before a weight is there: a step on PyTorch's meta device, forward and backward.

There every tensor has its shape and no memory, and a ledger counts what is alive; so released networks of any size are
tried on any machine.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.ledger import Ledger, Work
from longtake.models import weights
from longtake.models.ltx import LTXConfig, LTXTransformer, timestep
from longtake.models.ltx_block import Block, Call, Levels, TextMemory
from longtake.models.ltx_codec import LTXCodec
from longtake.models.ltx_codec_config import LTXCodecConfig
from longtake.models.ltx_presets import LTX as RELEASED
from longtake.models.ltx_presets import TEXT_PARAMETERS
from longtake.models.text import T5Config, T5Encoder
from longtake.train.config import read_table
from longtake.train.mixed import Drawing
from longtake.train.optim import Muon, make_optimisers
from longtake.train.pairs import grouped, least, pairs
from longtake.train.recipes.mixed import MixedConfig
from longtake.train.settings import DTYPES, Settings
from longtake.world import FPS

GIB = 2**30
WORDS = 256  # of a prompt, at most


@dataclass(frozen=True)
class Taken:
    """Of a run, in bytes. parameters: of the network. clips, tokens: of its largest batch.

    held: weights, averages and what the optimiser remembers, from the first step to the last. gradients: of all weights.
    copies: of the weights in the dtype of the layers. step: the most that forward and backward pass hold beside those,
    gradients too. update: what the optimiser needs to move the weights. parts: codec and text encoder. work:
    floating-point operations of a batch.
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
    work: float

    @property
    def peak(self) -> int:
        """At the worst moment, on one process."""
        return self.held + self.parts + max(self.copies + self.step, self.gradients + self.update)


class Flash(torch.autograd.Function):
    """Attention by shapes alone, as kernels keep it that hold no table of all pairs: inputs, output, and a sum a row."""

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
def by_shapes(work: Work) -> Iterator[None]:
    """While this lasts attention goes by shapes, also where layers are recomputed, which no mode of torch sees."""

    def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        work.flops += 4 * q.numel() * k.shape[-2]
        return Flash.apply(q, k, v)

    whole = nnf.scaled_dot_product_attention
    nnf.scaled_dot_product_attention = attend  # type: ignore[assignment]
    try:
        yield
    finally:
        nnf.scaled_dot_product_attention = whole


def shapes(settings: MixedConfig) -> tuple[LTXConfig, LTXCodecConfig]:
    """Network and codec of a run: of a released preset, of a folder, or as the table `network` says."""
    if settings.init in RELEASED:
        return RELEASED[settings.init].config(), RELEASED[settings.init].codec_config()
    codec = Path(settings.codec) if settings.codec else Path(settings.init) / "vae"
    codec_config = weights.configure(LTXCodecConfig, codec)
    if settings.init:
        return weights.configure(LTXConfig, Path(settings.init) / "transformer"), codec_config
    return read_table(LTXConfig, settings.network, "mixed.network"), codec_config


def dry_run(config: Mapping[str, Any]) -> tuple[Taken, list[str]]:
    """What a config of the recipe `mixed` takes, and the same in words. ConfigError or WeightsError: what is wrong with it.

    `init` may be the name of a released preset here.
    """
    settings = read_table(MixedConfig, config.get("mixed", {}), "mixed")
    loop = read_table(Settings, config.get("loop", {}), "loop")
    how = read_table(Drawing, settings.drawing, "mixed.drawing")
    network, codec = shapes(settings)
    found = pairs(settings.seconds, settings.sizes, codec.stride, codec.scale, FPS)
    groups = [[pair.tokens for pair in group] for group in grouped(found, how.most)]
    batches = [(max(1, how.tokens // kept), kept) for group in groups for kept in _kept(group, how)]
    taken = _taken(network, loop, *max(batches, key=lambda batch: batch[0] * batch[1]), _parts(settings, codec))
    name = settings.init or "a new network"
    return taken, [
        f"mixed     {name}, {taken.parameters:,} weights; {len(found)} kinds of clips in {len(groups)} kinds of batches",
        *(f"tokens    {_span(group)} of a clip, {_span(_kept(group, how))} of them kept" for group in groups),
        *lines(taken, loop),
    ]


def _kept(group: Sequence[int], how: Drawing) -> list[int]:
    """The fewest and the most tokens that every clip of a group keeps."""
    return [least(max(group), how.most), min(group)]


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _parts(settings: MixedConfig, codec: LTXCodecConfig) -> int:
    """Bytes of codec and text encoder, which stay in float32."""
    count = _count(lambda: LTXCodec(codec))
    if settings.init in RELEASED and not settings.text:
        return 4 * (count + TEXT_PARAMETERS)
    text = T5Config.read(Path(settings.text or settings.init) / "text_encoder")
    return 4 * (count + _count(lambda: T5Encoder(text)))


def _count(make: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in make().parameters())


def _taken(config: LTXConfig, loop: Settings, clips: int, tokens: int, parts: int) -> Taken:
    """A step of a batch of so many clips, on shapes alone."""
    with torch.device("meta"):
        net = LTXTransformer(config).to(DTYPES[loop.dtype]).train()
    net.checkpointing = loop.checkpointing
    count = sum(weight.numel() for weight in net.parameters())
    half = 0 if loop.dtype == "fp32" else 2 * count
    adamw, muon = remembered(net, loop)
    step, work = passed(net, clips, tokens)
    return Taken(
        parameters=count, clips=clips, tokens=tokens, held=8 * count + 8 * adamw + 4 * muon, gradients=4 * count,
        copies=half, step=step + half, update=4 * adamw + 12 * muon, parts=parts, work=work,
    )  # fmt: skip


def remembered(net: LTXTransformer, loop: Settings) -> tuple[int, int]:
    """Weights that AdamW moves, which remembers two numbers of each, and that Muon moves, which remembers one."""
    counts = {Muon: 0, torch.optim.AdamW: 0}
    for optimiser in make_optimisers(net, loop.optimiser, loop.lr, loop.weight_decay):
        counts[type(optimiser)] += sum(w.numel() for group in optimiser.param_groups for w in group["params"])
    return counts[torch.optim.AdamW], counts[Muon]


def passed(net: LTXTransformer, clips: int, tokens: int, words: int = WORDS) -> tuple[int, float]:
    """Bytes that forward and backward pass of a batch take at most, gradients with them, and the operations of both.

    Every clip has a level of its own, and what is given has level 0. Layers that are recomputed work once more.
    """
    config, dtype = net.config, net.proj_in.weight.dtype
    gc.collect()
    with torch.device("meta"), Ledger({"meta"}, net.parameters()) as ledger, Work() as work, by_shapes(work):
        x, target = (torch.empty(clips, tokens, config.in_channels) for _ in range(2))
        rope = torch.empty(clips, tokens, config.dim // 2, dtype=torch.complex64)
        text = net.caption_projection(torch.empty(clips, words, config.caption_channels, dtype=dtype))
        memory = TextMemory(tuple(cast(Block, block).read(text) for block in net.blocks))
        head, blocks = net.time_embed(timestep(torch.empty(clips + 1)))
        levels = Levels(head, blocks, torch.empty(clips, 1, tokens, dtype=torch.long))
        velocity = net.run(x[:, None], Call([memory], [(0, 0, 1)], levels, rope)).flatten(2).transpose(1, 2)
        loss = (velocity - target).pow(2).mean(-1).sum()
        forward = work.flops
        loss.backward()
    return ledger.most, float((4 if net.checkpointing else 3) * forward)


def lines(taken: Taken, loop: Settings) -> list[str]:
    """The memory in words, part by part."""
    kept = "layers are recomputed" if loop.checkpointing else "checkpointing = true takes less"
    rows = {
        "weights": (taken.held, f"with their averages and what {loop.optimiser} remembers"),
        "parts": (taken.parts, "codec and text encoder, which are not trained"),
        "step": (taken.copies + taken.step, f"{taken.clips} clips of {taken.tokens:,} tokens, {loop.dtype}; {kept}"),
        "update": (taken.gradients + taken.update, "gradients, and what moves the weights"),
        "together": (taken.peak, f"at most, on one process; {taken.work / 1e12:,.1f} TFLOP a batch"),
    }
    return [f"{name:<9} {size / GIB:,.2f} GiB   {what}" for name, (size, what) in rows.items()]
