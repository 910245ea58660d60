"""The plan before the run, without weights: windows, work, memory and disk of a video on a Wan checkpoint.

Nothing is estimated by formulas that could fall behind the code: the engine itself runs the first windows with networks
on PyTorch's meta device, where every tensor has its shape and no memory, and a ledger counts what is alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from longtake.engine import Rollout
from longtake.events import Called
from longtake.geometry import latents_of_frames
from longtake.ledger import Ledger, Work, blank, size_of
from longtake.models import svi
from longtake.models.base import Model
from longtake.models.clip import ClipConfig, ClipVision
from longtake.models.presets import Chain
from longtake.models.wan import WanConfig, WanTransformer
from longtake.models.wan_codec import WanCodec, WanCodecConfig
from longtake.models.wan_image import Teller
from longtake.models.wan_session import WanSession
from longtake.noise import Spot
from longtake.plan import Cost, Limits, cost
from longtake.plans import Plan
from longtake.plans import plan as plan_named
from longtake.script import Scene, Script

LAYERS = 2  # of a network that are rehearsed; the others are like them
CALLS = 3  # of a window that are rehearsed where every call is alike: the solver remembers all it ever will


@dataclass(frozen=True)
class Shapes:
    """All that is known of a checkpoint without its weights. words: tokens of a prompt; eyes: for image to video.

    chain: how clips are chained (Stable Video Infinity); it may need two networks, each for some of the noise levels.
    """

    name: str
    network: WanConfig
    codec: WanCodecConfig
    limits: Limits
    fps: float
    size: tuple[int, int]
    guidance: float
    solver: str
    words: int = 512
    eyes: ClipConfig | None = None
    text_bytes: int = 0
    dtype: torch.dtype = torch.bfloat16
    chain: Chain | None = None

    @property
    def experts(self) -> int:
        """How many networks of this shape there are."""
        return 2 if self.chain and self.chain.switch else 1


@dataclass(frozen=True)
class Estimate:
    """What a run takes. Bytes and floating-point operations.

    tokens: of a latent frame. call, decode: operations of one model call with all its branches of guidance, and of
    decoding the whole. weights: by part. calls_peak, codec_peak: beside the weights while the network is at work, and
    while the codec is; they hold all that lives through a run. memory: keys and values of remembered frames, text: of
    prompts. block: weights of the largest block.
    """

    cost: Cost
    frames: int
    tokens: int
    call: float
    total: float
    decode: float
    weights: dict[str, int]
    block: int
    outside: int
    calls_peak: int
    codec_peak: int
    memory: int
    text: int

    @property
    def peak(self) -> int:
        """Beside the loaded weights, at the worst moment."""
        return max(self.calls_peak, self.codec_peak)


class Unread:
    """A text encoder that gives every prompt an embedding without numbers."""

    def __init__(self, shapes: Shapes):
        self.shape, self.dtype = (shapes.words, shapes.network.text_dim), shapes.dtype

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        return torch.empty(len(prompts), *self.shape, device="meta", dtype=self.dtype)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """See `TextEncoder`."""
        return ()


def unheard(spots: Sequence[Spot], shape: tuple[int, int, int]) -> Tensor:
    """See `Noise`: only its shape."""
    channels, *size = shape
    return torch.empty(1, channels, len(spots), *size, device="meta")


@dataclass(frozen=True)
class Stage:
    """A model without weights, its networks by part, and those sessions that it has made which are still in use."""

    model: Model
    parts: dict[str, Any]
    sessions: WeakSet[WanSession]

    @property
    def weights(self) -> list[Tensor]:
        """Of all parts."""
        return [weight for net in self.parts.values() for weight in net.parameters()]


def stage(shapes: Shapes) -> Stage:
    """The checkpoint without weights."""
    net = blank(lambda: WanTransformer(shapes.network), shapes.dtype)
    codec = blank(lambda: WanCodec(shapes.codec), torch.float32)
    parts = {"network": net, "codec": codec}
    tell = None
    if shapes.limits.context == "beside":
        if shapes.eyes is not None:
            parts["image encoder"] = blank(lambda: ClipVision(shapes.eyes or ClipConfig()), torch.float32)
        eyes = parts.get("image encoder")
        tell = svi.teller(shapes.chain, codec, eyes) if shapes.chain else Teller(codec, eyes)
    sessions: WeakSet[WanSession] = WeakSet()

    def session() -> WanSession:
        made = WanSession(net, True, tell)
        sessions.add(made)
        return made

    model = Model(
        name=shapes.name, family="wan", limits=shapes.limits, session=session, codec=codec,
        text=Unread(shapes), fps=shapes.fps, size=shapes.size, guidance=shapes.guidance, device="meta",
    )  # fmt: skip
    return Stage(model, parts, sessions)


def rehearse(shapes: Shapes, name: str, options: dict[str, Any], frames: int) -> Estimate:
    """What `frames` output frames take under a plan. PlanError if the checkpoint cannot run it.

    Memory is that of a GPU; a CPU takes less, because there the feed-forward goes through in smaller pieces.
    """
    config = shapes.network
    layers = min(LAYERS, config.num_layers)
    there = stage(replace(shapes, network=replace(config, num_layers=layers)))
    model, parts = there.model, there.parts
    plan = plan_named(name, **options)
    start = torch.empty(1, 3, 1, *shapes.size, device="meta") if shapes.limits.context == "beside" else None
    known = 0 if start is None else 1
    planned = cost(plan.windows(frames, model.codec.stride, model.limits, known))
    played = _Played.of(there, _shortened(plan, shapes), frames, shapes, start)
    more, tokens = config.num_layers / layers, _tokens(shapes)
    work = flops(config, tokens, 1) / flops(replace(config, num_layers=layers), tokens, 1)
    branches = 1 if shapes.guidance == 1 else 2
    whole = branches * flops(config, tokens, planned.view, shapes.words)
    call = work * played.call if shapes.limits.causal else whole  # but for what the last layer can leave out
    held = round((more - 1) * (played.memory + played.text))  # for the layers that were not rehearsed
    parts["network"] = network = blank(lambda: WanTransformer(config), shapes.dtype)
    return Estimate(
        cost=planned,
        frames=frames,
        tokens=tokens,
        call=call,
        total=work * played.over(planned) if shapes.limits.causal else call * planned.calls,
        decode=_decoding(parts["codec"], shapes) * latents_of_frames(frames, model.codec.stride),
        weights={
            **{part: size_of(net) * (shapes.experts if part == "network" else 1) for part, net in parts.items()},
            "text encoder": shapes.text_bytes,
        },
        block=max(size_of(block) for block in network.blocks),
        outside=size_of(network) - sum(size_of(block) for block in network.blocks),
        calls_peak=played.calls_peak + held,
        codec_peak=played.codec_peak + held,
        memory=round(more * played.memory),
        text=round(more * played.text),
    )


@dataclass
class _Played:
    """What was counted in the first windows."""

    calls_peak: int = 0
    codec_peak: int = 0
    first: float = 0.0
    later: float = 0.0
    call: float = 0.0
    memory: int = 0
    text: int = 0

    @staticmethod
    def of(there: Stage, plan: Plan, frames: int, shapes: Shapes, start: Tensor | None) -> _Played:
        """Play two windows, and begin the third: by then everything that a run ever holds has been held."""
        found = _Played()
        script = Script.of([Scene("a")], shapes.fps, frames / shapes.fps)
        with (
            torch.inference_mode(),
            Ledger({"meta"}, there.weights) as ledger,
            Work() as work,
        ):
            rollout = Rollout(
                there.model, script, plan, guidance=shapes.guidance, solver=shapes.solver, noise=unheard, start=start,
                overlapped=False,
            )  # fmt: skip
            for event in rollout.run():
                found._saw(event, ledger, work)
                if isinstance(event, Called) and event.call == 1:
                    found._look(there.sessions)
                if isinstance(event, Called) and event.index == 2:
                    break
        found.codec_peak = max(found.codec_peak, ledger.most)
        return found

    def _saw(self, event: Any, ledger: Ledger, work: Work) -> None:
        """Between a window's beginning and its last call the network is at work, else the codec."""
        if isinstance(event, Called):
            self.calls_peak = max(self.calls_peak, ledger.most)
            if event.call > 1 or event.calls == 1:
                self.call = max(self.call, work.flops)
            if event.index < 2:
                sums = "later" if event.index else "first"
                setattr(self, sums, getattr(self, sums) + work.flops)
        else:
            self.codec_peak = max(self.codec_peak, ledger.most)
        work.flops = 0
        ledger.restart()

    def over(self, planned: Cost) -> float:
        """All windows, if those after the second are like it."""
        return self.first + self.later * (planned.windows - 1)

    def _look(self, sessions: Iterable[WanSession]) -> None:
        """Bytes of what the sessions remember."""
        memories = [session.memory for session in sessions if session.memory is not None]
        self.memory = max(self.memory, sum(t.nbytes for m in memories for t in (*m.keys, *m.values)))
        texts = [memory for session in sessions for memory in session.texts.values()]
        self.text = sum(t.nbytes for memory in texts for layer in memory.layers for t in layer)


def _shortened(plan: Plan, shapes: Shapes) -> Plan:
    """The plan with fewer calls, where every call of a window runs all frames in view."""
    settings = asdict(plan)  # type: ignore[call-overload]
    if shapes.limits.causal or settings["steps"] <= CALLS or type(plan).__name__ != "Chunks":
        return plan
    return replace(plan, steps=CALLS, lag=min(settings["lag"], 1))  # type: ignore[type-var]


def _tokens(shapes: Shapes) -> int:
    _, rows, columns = shapes.network.patch_size
    height, width = shapes.size
    return (height // shapes.codec.scale // rows) * (width // shapes.codec.scale // columns)


def _decoding(codec: WanCodec, shapes: Shapes) -> float:
    """Operations of decoding a latent frame that is not the first."""
    height, width = (side // codec.scale for side in shapes.size)
    decoder, latent = codec.decoder(), torch.empty(1, codec.channels, 1, height, width, device="meta")
    decoder.push(latent)
    decoder.push(latent)
    with Work() as work:
        decoder.push(latent)
    return work.flops


def flops(config: WanConfig, tokens: int, frames: int, words: int = 512, seen: int = 257) -> float:
    """Operations of one call of a network without a mask, by hand.

    Of every token 8 D^2 in self-attention's and 4 D^2 in cross-attention's matrices, 4 D ffn in the feed-forward, 4 L D
    in attention to L tokens, 4 D words in attention to the text (and to `seen` tokens of an image).
    """
    dim, length = config.dim, frames * tokens
    told = words + (seen if config.image_dim is not None else 0)
    layer = length * dim * (12 * dim + 4 * config.ffn_dim + 4 * length + 4 * told)
    area = config.patch_size[1] * config.patch_size[2]
    ends = 2 * length * dim * area * (config.in_channels + config.out_channels)
    return config.num_layers * layer + ends
