"""Blocks whose weights are made ready one block at a time: copied from host memory, dequantised, or both.

A LoRA cannot be merged into a float8 matrix without being rounded away, so it is stored beside the matrix and added
to the dequantised one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from longtake.models.runtime.fp8 import Fp8Weight, dequantize, quantize_linear
from longtake.models.runtime.transfer import Transfer


class WeightDelta(Protocol):
    """A change of a weight, such as `lora.delta.LoraDelta`."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors that it is computed from."""

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> WeightDelta:
        """Return the same change with copies of its tensors, on another device."""

    def delta(self, weight: Tensor) -> Tensor:
        """Return the change of a weight, with its shape, device and dtype."""


Deltas = Mapping[str, Sequence[tuple[WeightDelta, float]]]  # parameter name -> changes with their strengths


class StreamedBlocks(nn.ModuleList):
    """The blocks of a network. Iterating makes one pass: each block has its weights ready, at most two at any time.

    On entering a block its float8 matrices are dequantised; its weights are copied to the device by `transfer` while
    the block before it computes. Between passes all weights are in storage. Parameters keep the names that they have
    in a plain nn.ModuleList.
    """

    def __init__(self, blocks: Iterable[nn.Module], transfer: Transfer):
        super().__init__(blocks)
        self.blocks, self.transfer = list(self._modules.values()), transfer
        self.fp8: list[Mapping[str, Fp8Weight]] = [{} for _ in self.blocks]
        self.deltas: Deltas = {}

    def quantize(self) -> None:
        """Store the matrices of all linear layers as float8."""
        for index, block in enumerate(self.blocks):
            self.fp8[index] = quantize_linear(block)

    @property
    def quantized(self) -> list[str]:
        """Names of the float8 matrices, such as "0.attn1.to_q.weight"."""
        return [f"{index}.{name}" for index, weights in enumerate(self.fp8) for name in weights]

    def set_deltas(self, deltas: Deltas) -> None:
        """Add these changes, and no others, to float8 matrices whenever they are dequantised."""
        devices = {name: weight.device for name, weight in self.named_parameters()}
        self.deltas = {
            name: [
                (delta.with_tensors({part: one.to(devices[name]) for part, one in delta.tensors.items()}), strength)
                for delta, strength in each
            ]
            for name, each in deltas.items()
        }

    def __iter__(self) -> Iterator[nn.Module]:
        """Iterate over the blocks in one pass. A block's weights return to storage even if the pass is abandoned."""
        started, previous = self._start(0), None
        for index, block in enumerate(self.blocks):
            stored = self._enter(index, started)
            started = None
            try:
                yield block
                mark = self.transfer.record()
                if previous is not None:
                    self.transfer.synchronize(previous)  # otherwise the host would run ahead and copy block after block
                started, previous = (self._start(index + 1) if index + 1 < len(self.blocks) else None), mark
            finally:
                _set_weights(block, stored)

    @torch.inference_mode(False)
    def _start(self, index: int) -> Any:
        """Start copying all that a block needs."""
        scales = {f"{name}.scale": weight.scale for name, weight in self.fp8[index].items()}
        weights = {name: weight.data for name, weight in self.blocks[index].named_parameters()}
        factors = dict[str, Tensor]()
        for name in self.fp8[index]:
            for number, (delta, _) in enumerate(self.deltas.get(f"{index}.{name}", ())):
                factors |= {f"{name}.{number}.{part}": one for part, one in delta.tensors.items()}
        return self.transfer.start(weights | scales | factors)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _enter(self, index: int, started: Any) -> dict[str, Tensor]:
        """Put the copied weights into the block; return those that were in it."""
        block, fp8, copies = self.blocks[index], self.fp8[index], self.transfer.wait(started)
        stored = {name: weight.data for name, weight in block.named_parameters()}
        ready = {name: self._dequantized(index, name, copies) if name in fp8 else copies[name] for name in stored}
        _set_weights(block, ready)
        return stored

    def _dequantized(self, index: int, name: str, copies: Mapping[str, Tensor]) -> Tensor:
        """Return a float8 matrix with its LoRAs, in the dtype that it is used in; rounded once."""
        dtype, deltas = self.fp8[index][name].dtype, self.deltas.get(f"{index}.{name}", ())
        scale = copies[f"{name}.scale"].to(copies[name].device)
        weight = dequantize(copies[name], scale, torch.float32 if deltas else dtype)
        changed = weight
        for number, (delta, strength) in enumerate(deltas):
            copied = delta.with_tensors({part: copies[f"{name}.{number}.{part}"] for part in delta.tensors})
            changed = changed + strength * copied.delta(weight)
        return changed.to(dtype)

    def pin_scales(self) -> None:
        """Move the scales to page-locked memory, from which a GPU copies while it computes."""
        for index, weights in enumerate(self.fp8):
            self.fp8[index] = {name: replace(one, scale=one.scale.pin_memory()) for name, one in weights.items()}


@torch.inference_mode(False)
def _set_weights(block: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, weight in block.named_parameters():
        weight.data = weights[name]
