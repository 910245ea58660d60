"""Saving and restoring: every object of the engine saves itself, and one pair of functions joins them.

A state is a dict of tensors and a dict of facts that JSON can hold. A new object enters the snapshot with one more name
in the call of `merged` and of `restore`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

State = tuple[dict[str, Tensor], dict[str, Any]]


class Stateful(Protocol):
    """An object that can be saved and restored."""

    def state(self) -> State:
        """Return everything that a restored object needs to continue bit for bit."""

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over a saved state."""


def merged(**parts: Stateful) -> State:
    """Join the states of several objects: tensors under "name.tensor", facts under the name."""
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    for name, part in parts.items():
        its_tensors, facts[name] = part.state()
        tensors |= prefixed(name, its_tensors)
    return tensors, facts


def restore(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], **parts: Stateful) -> None:
    """Give every object its share of a merged state."""
    for name, part in parts.items():
        part.load(within(name, tensors), facts[name])


def prefixed(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put "name." before the key of every tensor."""
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}


def within(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick the tensors whose keys start with "name.", without it."""
    start = f"{name}."
    return {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}


def present(**tensors: Tensor | None) -> dict[str, Tensor]:
    """Pick the tensors that are not None."""
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}
