"""The blocks of a network, brought to the device one after the other, and made wide if they are kept in 8 bits.

A LoRA cannot be merged into a matrix in 8 bits without rounding it away, so it is kept beside it and added to the wide one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from longtake.models.fp8 import Small, small, wide
from longtake.models.lora_file import Low


class Mover(Protocol):
    """Brings tensors to a device."""

    def bring(self, tensors: Mapping[str, Tensor]) -> Any:
        """Begin to copy them."""

    def ready(self, brought: Any) -> Mapping[str, Tensor]:
        """The copies, for work that is given to the device from now on."""

    def mark(self) -> Any:
        """A point in the work that was given to the device so far."""

    def reached(self, mark: Any) -> None:
        """Wait until the device has got there."""


class Here:
    """Tensors that are where they are used."""

    def bring(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `Mover`."""
        return tensors

    def ready(self, brought: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `Mover`."""
        return brought

    def mark(self) -> None:
        """See `Mover`."""

    def reached(self, mark: None) -> None:
        """See `Mover`."""


class Cuda:
    """Copies from pinned memory on a stream of its own, beside the work of the device."""

    def __init__(self, device: str):
        self.device, self.side = torch.device(device), torch.cuda.Stream(device)

    def bring(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Any]:
        """See `Mover`."""
        with torch.cuda.stream(self.side):
            copies = {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}
            return copies, self.side.record_event()

    def ready(self, brought: tuple[dict[str, Tensor], Any]) -> Mapping[str, Tensor]:
        """See `Mover`."""
        copies, copied = brought
        now = torch.cuda.current_stream(self.device)
        now.wait_event(copied)
        for copy in copies.values():
            copy.record_stream(now)  # its memory is not given away while this work runs
        return copies

    def mark(self) -> Any:
        """See `Mover`."""
        return torch.cuda.current_stream(self.device).record_event()

    def reached(self, mark: Any) -> None:
        """See `Mover`."""
        mark.synchronize()


Changes = Mapping[str, Sequence[tuple[Low, float]]]  # of matrices, by name: LoRAs with their strengths


class Blocks(nn.ModuleList):
    """The blocks of a network. Going through them is a pass: each has its weights at hand, at most two at any time.

    Those kept in 8 bits are made wide on entering, others are only brought. Between passes all weights are at rest. Its
    parameters have the names that they have in a plain list.
    """

    def __init__(self, blocks: Iterable[nn.Module], mover: Mover):
        super().__init__(blocks)
        self.blocks, self.mover = list(self._modules.values()), mover
        self.kept: list[Mapping[str, Small]] = [{} for _ in self.blocks]
        self.changes: Changes = {}

    def shrink(self, dtype: torch.dtype) -> None:
        """Keep the weight matrices in 8 bits, to be computed with in `dtype`."""
        for at, block in enumerate(self.blocks):
            self.kept[at] = small(block, dtype)

    @property
    def narrow(self) -> list[str]:
        """The matrices that are kept in 8 bits, by their names in here."""
        return [f"{at}.{name}" for at, kept in enumerate(self.kept) for name in kept]

    def change(self, changes: Changes) -> None:
        """Add these changes, and no others, to matrices that are kept in 8 bits, whenever they are made wide."""
        places = {name: weight.device for name, weight in self.named_parameters()}
        self.changes = {
            name: [(replace(low, down=low.down.to(places[name]), up=low.up.to(places[name])), by) for low, by in each]
            for name, each in changes.items()
        }

    def __iter__(self) -> Iterator[nn.Module]:
        """A pass. A block that is left, by the end of the pass or because the pass is given up, is at rest again."""
        brought, before = self._bring(0), None
        for at, block in enumerate(self.blocks):
            rest = self._enter(at, brought)
            brought = None
            try:
                yield block
                mark = self.mover.mark()
                if before is not None:
                    self.mover.reached(before)  # else the host runs ahead and brings block after block
                brought, before = (self._bring(at + 1) if at + 1 < len(self.blocks) else None), mark
            finally:
                _set(block, rest)

    @torch.inference_mode(False)
    def _bring(self, at: int) -> Any:
        scales = {f"{name}.scale": kept.scale for name, kept in self.kept[at].items()}
        weights = {name: weight.data for name, weight in self.blocks[at].named_parameters()}
        lows = dict[str, Tensor]()
        for name in self.kept[at]:
            for number, (low, _) in enumerate(self.changes.get(f"{at}.{name}", ())):
                lows |= {f"{name}.{number}.down": low.down, f"{name}.{number}.up": low.up}
        return self.mover.bring(weights | scales | lows)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _enter(self, at: int, brought: Any) -> dict[str, Tensor]:
        """Put the brought weights into the block; returns those that were there."""
        block, kept, here = self.blocks[at], self.kept[at], self.mover.ready(brought)
        rest = {name: weight.data for name, weight in block.named_parameters()}
        _set(block, {name: self._wide(at, name, here) if name in kept else here[name] for name in rest})
        return rest

    def _wide(self, at: int, name: str, here: Mapping[str, Tensor]) -> Tensor:
        """A matrix that is kept in 8 bits, with what changes it, in the dtype in which it is used; rounded once."""
        dtype, changes = self.kept[at][name].dtype, self.changes.get(f"{at}.{name}", ())
        weight = wide(here[name], here[f"{name}.scale"].to(here[name].device), torch.float32 if changes else dtype)
        for number, (low, strength) in enumerate(changes):
            brought = replace(low, down=here[f"{name}.{number}.down"], up=here[f"{name}.{number}.up"])
            weight = weight + strength * brought.delta(weight)
        return weight.to(dtype)

    def pin(self) -> None:
        """Keep the scales in page-locked memory, from which a device copies beside its work."""
        for at, kept in enumerate(self.kept):
            self.kept[at] = {name: replace(one, scale=one.scale.pin_memory()) for name, one in kept.items()}


@torch.inference_mode(False)
def _set(block: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, weight in block.named_parameters():
        weight.data = weights[name]
