"""Copying weights to the device while it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor


class Transfer(Protocol):
    """Copies tensors to a device in the background."""

    def start(self, tensors: Mapping[str, Tensor]) -> Any:
        """Start copying; return a handle for `wait`."""

    def wait(self, started: Any) -> Mapping[str, Tensor]:
        """Return the copies; work that the device is given from now on waits for them."""

    def record(self) -> Any:
        """Return a mark of the work that the device was given so far."""

    def synchronize(self, mark: Any) -> None:
        """Block the host until the device has reached a mark."""


class SameDevice:
    """A Transfer for weights that are stored where they are used: it copies nothing."""

    def start(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors themselves."""
        return tensors

    def wait(self, started: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors themselves."""
        return started

    def record(self) -> None:
        """Record nothing."""

    def synchronize(self, mark: None) -> None:
        """Wait for nothing."""


class CudaStreamTransfer:
    """A Transfer from page-locked host memory on a CUDA stream of its own, in parallel to the computation."""

    def __init__(self, device: str):
        self.device, self.stream = torch.device(device), torch.cuda.Stream(device)

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Any]:
        """Start the copies on the side stream; return them with the event of their end."""
        with torch.cuda.stream(self.stream):
            copies = {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}
            return copies, self.stream.record_event()

    def wait(self, started: tuple[dict[str, Tensor], Any]) -> Mapping[str, Tensor]:
        """Make the computing stream wait for the copies, and return them."""
        copies, copied = started
        computing = torch.cuda.current_stream(self.device)
        computing.wait_event(copied)
        for copy in copies.values():
            copy.record_stream(computing)  # so that the allocator does not reuse its memory while this work runs
        return copies

    def record(self) -> Any:
        """Record an event on the computing stream."""
        return torch.cuda.current_stream(self.device).record_event()

    def synchronize(self, mark: Any) -> None:
        """Wait for the event."""
        mark.synchronize()
