"""A Wan model that is larger than its device: its parts take turns there, or the blocks of its network do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from longtake.models.base import Codec, Session, TextEncoder
from longtake.models.blocks import Blocks, Cuda, Here, Mover
from longtake.models.clip import ClipVision
from longtake.models.place import Offload
from longtake.models.turns import Lazy, Part, Stage, Stays, TurnCodec, TurnSession, TurnText, Whole, back, first
from longtake.models.wan import WanTransformer
from longtake.models.wan_codec import WanCodec


@dataclass
class Turns:
    """Who lies where. Networks are given in host memory; nothing is done for offload "none"."""

    device: str
    offload: Offload
    stage: Stage = field(default_factory=Stage)

    @property
    def rest(self) -> str:
        """Where weights lie when they are not at work."""
        return self.device if self.offload == "none" else "cpu"

    def keep(self, net: WanTransformer, fp8: bool = False, mover: Mover | None = None) -> Part:
        """Place a network; the part that it is. fp8: keep the matrices of its blocks in 8 bits, of the dtype that they
        have now."""
        far = self.offload == "blocks"
        if fp8 or far:
            move = mover or (Cuda(self.device) if far and self.device != "cpu" else Here())
            dtype = net.proj_out.weight.dtype
            net.requires_grad_(False)
            net.blocks = Blocks(net.blocks, move)
            if fp8:
                net.blocks.shrink(dtype)
        if far:
            for name, weight in net.named_parameters():
                if not name.startswith("blocks."):
                    weight.data = weight.data.to(self.device)
        if self.offload != "none" and torch.device(self.device).type == "cuda":
            pin(net)
        return Whole(net, self.device) if self.offload == "model" else Stays()

    def session(self, make: Callable[[], Session], network: Part) -> Callable[[], Session]:
        """Sessions of a network in its turn."""
        if self.offload == "none":
            return make
        return lambda: TurnSession(make(), self.stage.turn(network))

    def codec(self, codec: WanCodec) -> Codec:
        """The codec in its turn."""
        if self.offload == "none":
            return codec
        codec.folds = torch.device(self.device).type == "cpu"  # where it is at work, not where it lies
        part = Whole(codec, self.device)
        return TurnCodec(codec, part, self.stage.turn(part))

    def eyes(self, eyes: ClipVision | None) -> Any:
        """What sees pictures in its turn."""
        if eyes is not None and self.offload != "none":
            eyes.see = first(self.stage.turn(Whole(eyes, self.device)), eyes.see)  # type: ignore[method-assign]
        return eyes

    def told(self, tell: Callable[..., Any] | None, network: Part) -> Callable[..., Any] | None:
        """What asks codec and image encoder in the middle of a session, after which its network is at work again."""
        if tell is None or self.offload == "none":
            return tell
        return back(self.stage.turn(network), tell)

    def text(self, text: Any, make: Callable[[], nn.Module]) -> TextEncoder:
        """The text encoder, whose network is read when there are prompts to encode, and dropped after."""
        if self.offload == "none":
            text.encoder = make()
            return text
        return TurnText(text, self.stage.turn(Lazy(make, lambda encoder: setattr(text, "encoder", encoder))))

    def at_rest(self) -> None:
        """All weights in host memory, where LoRAs are merged into them."""
        if self.offload == "model":
            self.stage.enter(None)


def pin(net: nn.Module) -> None:
    """Page-locked host memory, from which a device copies beside its work."""
    for weight in net.parameters():
        if weight.device.type == "cpu":
            weight.data = weight.data.pin_memory()
    for part in net.modules():
        if isinstance(part, Blocks):
            part.pin()
