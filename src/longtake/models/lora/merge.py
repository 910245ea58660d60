"""LoRAs merged into the weights of a network, and removed again bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from longtake.models.checkpoints.loading import WeightsError, brief
from longtake.models.lora.delta import Lora, WeightDelta, wide_dtype


@runtime_checkable
class QuantizedBlocks(Protocol):
    """A module with weights that cannot be changed in place, which adds LoRAs to them whenever it dequantises them."""

    @property
    def quantized(self) -> list[str]:
        """Names of such weights inside the module."""

    def set_deltas(self, deltas: Mapping[str, Sequence[tuple[WeightDelta, float]]]) -> None:
        """Add these changes with their strengths, and no others, from now on."""


class MergedLoras:
    """The LoRAs of a network: W + sum of strength * change, added in float32 or better and rounded once.

    Subtracting a change would not restore the same bits, so changed weights keep their original: one copy each, however
    many LoRAs there are and however often they change, always in host memory (for a network on a CPU these are the
    tensors that it was loaded with, not copies). The result depends on the LoRAs alone, not on their order nor on what
    was merged before. Float8 matrices stay as they are; their LoRAs go to the `QuantizedBlocks`.
    """

    def __init__(self, net: nn.Module):
        self.net = net
        self.originals: dict[str, Tensor] = {}  # of the parameters that are changed now

    @torch.no_grad()
    @torch.inference_mode(False)  # so that a weight merged in inference also serves training
    def use(self, loras: Sequence[tuple[Lora, float]]) -> None:
        """Merge these LoRAs at their strengths and no others; () restores the network.

        Raises WeightsError if the network has no such parameter, or a LoRA has a full difference of a float8 matrix.
        """
        loras = sorted((pair for pair in loras if pair[1]), key=lambda pair: pair[0].name)
        parameters = dict(self.net.named_parameters())
        quantized = self._use_quantized(loras)
        names = (name for lora, _ in loras for name in (*lora.deltas, *lora.diffs) if name not in quantized)
        changed = list(dict.fromkeys(names))
        if unknown := [name for name in changed if name not in parameters]:
            raise WeightsError(f"the network has no {brief(unknown)} to merge into: detach its LoRA layers first")
        for name in self.originals.keys() - set(changed):
            parameters[name].data = self.originals.pop(name).to(parameters[name].device)
        for name in changed:
            weight = parameters[name]
            original = self.originals.setdefault(name, weight.detach().to("cpu"))
            wide = original.to(weight.device, wide_dtype(weight))
            weight.data = (wide + sum(_changes(loras, name, wide))).to(weight.dtype)

    def _use_quantized(self, loras: Sequence[tuple[Lora, float]]) -> set[str]:
        """Hand the LoRAs of float8 matrices to their blocks; return the names of all such matrices."""
        found = set[str]()
        for place, blocks in self.net.named_modules():
            if not isinstance(blocks, QuantizedBlocks):
                continue
            names = {f"{place}.{name}": name for name in blocks.quantized}
            for lora, _ in loras:
                if full := [name for name in lora.diffs if name in names]:
                    raise WeightsError(
                        f"{lora.name} has full differences of {brief(full)}, which --fp8 stores in 8 bits: leave --fp8 out"
                    )
            deltas = {
                name: [(lora.deltas[full], strength) for lora, strength in loras if full in lora.deltas]
                for full, name in names.items()
            }
            if names:
                blocks.set_deltas({name: each for name, each in deltas.items() if each})
            found |= set(names)
        return found


def _changes(loras: Sequence[tuple[Lora, float]], name: str, like: Tensor) -> Iterator[Tensor]:
    """Yield what each LoRA adds to a parameter."""
    for lora, strength in loras:
        if name in lora.deltas:
            yield strength * lora.deltas[name].delta(like)
        if name in lora.diffs:
            yield strength * lora.diffs[name].to(like)
