"""A LoRA as values: changes of weights of several kinds, and full differences, by parameter name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from longtake.models.lora.key_formats import module_of


class WeightDelta(Protocol):
    """A change of a weight, computed from a few small tensors whenever it is needed."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors that it is computed from."""

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> WeightDelta:
        """Return the same change with other copies of its tensors, as on another device."""

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether this changes a weight of that shape."""

    def delta(self, weight: Tensor) -> Tensor:
        """Return the change of a weight, with its shape, device and dtype."""


@dataclass(frozen=True)
class LoraDelta:
    """A low-rank change of a weight: scale * up (out, rank) @ down (rank, in).

    For a convolution the factors have its kernel's trailing dimensions. scale is alpha / rank.
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return self.down.shape[0]

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Its two factors."""
        return {"down": self.down, "up": self.up}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> LoraDelta:
        """Return the same change with other copies of its factors."""
        return replace(self, down=tensors["down"], up=tensors["up"])

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether this changes a weight of that shape."""
        down, up = self.down, self.up
        if min(down.ndim, up.ndim, len(shape)) < 2:
            return False
        inner = (math.prod(up.shape[1:]), math.prod(down.shape[1:]))
        return up.shape[0] == shape[0] and inner == (self.rank, math.prod(shape[1:])) and self.rank > 0

    def delta(self, weight: Tensor) -> Tensor:
        """Return the change of a weight, with its shape, device and dtype."""
        up, down = (t.flatten(1).to(weight.device, weight.dtype) for t in (self.up, self.down))
        return (self.scale * (up @ down)).view(weight.shape)


@dataclass(frozen=True)
class HadamardDelta:
    """A LoHa: scale * (a1 (out, rank) @ b1 (rank, in)) * (a2 @ b2), elementwise (Hyeon-Woo et al. 2022)."""

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor
    scale: float

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Its four factors."""
        return {"a1": self.a1, "b1": self.b1, "a2": self.a2, "b2": self.b2}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> HadamardDelta:
        """Return the same change with other copies of its factors."""
        return HadamardDelta(tensors["a1"], tensors["b1"], tensors["a2"], tensors["b2"], self.scale)

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether this changes a weight of that shape."""
        matrix = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else ()
        pairs = ((self.a1, self.b1), (self.a2, self.b2))
        return all(
            a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] > 0 and (a.shape[0], b.shape[1]) == matrix
            for a, b in pairs
        )

    def delta(self, weight: Tensor) -> Tensor:
        """Return the change of a weight, with its shape, device and dtype."""
        a1, b1, a2, b2 = (one.to(weight.device, weight.dtype) for one in self.tensors.values())
        return (self.scale * (a1 @ b1) * (a2 @ b2)).view(weight.shape)


@dataclass(frozen=True)
class KroneckerDelta:
    """A LoKr: scale * the Kronecker product of two matrices, each of which may be a product itself (Yeh et al. 2024).

    first, second: a matrix (rows, columns) alone, or (rows, rank) and (rank, columns).
    """

    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]
    scale: float

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Its factors."""
        each = {"first": self.first, "second": self.second}
        return {f"{name}{number}": one for name, some in each.items() for number, one in enumerate(some)}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> KroneckerDelta:
        """Return the same change with other copies of its factors."""
        count = len(self.first)
        return replace(self, first=tuple(tensors.values())[:count], second=tuple(tensors.values())[count:])

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether this changes a weight of that shape."""
        sizes = []
        for some in (self.first, self.second):
            if any(one.ndim < 2 for one in some) or (len(some) == 2 and some[0].shape[1] != some[1].shape[0]):
                return False
            sizes.append((some[0].shape[0], math.prod(some[-1].shape[1:])))
        (rows, columns), (more_rows, more_columns) = sizes
        return len(shape) > 1 and (rows * more_rows, columns * more_columns) == (shape[0], math.prod(shape[1:]))

    def delta(self, weight: Tensor) -> Tensor:
        """Return the change of a weight, with its shape, device and dtype."""
        first, second = (_product(some, weight) for some in (self.first, self.second))
        return (self.scale * torch.kron(first, second)).view(weight.shape)


def _product(some: tuple[Tensor, ...], like: Tensor) -> Tensor:
    factors = [one.flatten(1).to(like.device, like.dtype) for one in some]
    return factors[0] if len(factors) == 1 else factors[0] @ factors[1]


@dataclass(frozen=True)
class DoraDelta:
    """A DoRA: another change, after which every row of the weight has a trained norm (Liu et al. 2024).

    The weight W becomes magnitude * V / norm(V) with V = W + inner. magnitude: (out,) or (out, 1) for the norms of rows,
    (1, in) for those of columns.
    """

    inner: WeightDelta
    magnitude: Tensor

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Those of the inner change, and the norms."""
        return {**self.inner.tensors, "magnitude": self.magnitude}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> DoraDelta:
        """Return the same change with other copies of its tensors."""
        inner = {name: one for name, one in tensors.items() if name != "magnitude"}
        return DoraDelta(self.inner.with_tensors(inner), tensors["magnitude"])

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether this changes a weight of that shape."""
        return self.inner.fits(shape) and self.magnitude.numel() == shape[1 if self.by_columns else 0]

    @property
    def by_columns(self) -> bool:
        """Whether the norms are those of columns."""
        sizes = self.magnitude.shape
        return len(sizes) > 1 and sizes[0] == 1 and sizes[1] > 1

    def delta(self, weight: Tensor) -> Tensor:
        """Return the change of a weight, with its shape, device and dtype."""
        changed = weight + self.inner.delta(weight)
        axis = 1 if self.by_columns else 0
        sizes = [-1 if i == axis else 1 for i in range(weight.ndim)]
        norm = changed.transpose(0, axis).flatten(1).norm(dim=1).view(sizes)
        magnitude = self.magnitude.to(weight.device, weight.dtype).reshape(sizes)
        return changed * (magnitude / norm) - weight


@dataclass(frozen=True)
class Lora:
    """The changes that a LoRA file makes to a network, by parameter name.

    deltas: changes that are computed from small tensors. diffs: full differences of weights, biases and norms.
    lists_targets: whether the file itself lists the modules that it was trained on. notes: what a user should know about
    how the file fits the network, one sentence each.
    """

    name: str
    deltas: Mapping[str, WeightDelta]
    diffs: Mapping[str, Tensor] = field(default_factory=dict)
    lists_targets: bool = False
    notes: tuple[str, ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return tuple(dict.fromkeys(module_of(name) for name in (*self.deltas, *self.diffs)))

    @property
    def low_rank(self) -> dict[str, LoraDelta]:
        """The plain low-rank changes among them."""
        return {name: one for name, one in self.deltas.items() if isinstance(one, LoraDelta)}

    @property
    def others(self) -> list[str]:
        """The parameters that it changes in another way: DoRA, LoHa, LoKr, and full differences."""
        return [*(name for name, one in self.deltas.items() if not isinstance(one, LoraDelta)), *self.diffs]


def wide_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype in which changes of a weight are added: at least float32."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32
