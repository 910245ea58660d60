"""Model offload: the text encoder, transformer, image encoder and VAE are moved to the device in turns.

Before a module runs it is moved to the device, and the previous one is moved back to host memory.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Protocol
from weakref import WeakSet

import torch
from torch import Tensor, nn

BeforeUse = Callable[[], None]  # called before the weights of a module are used


class OffloadedModule(Protocol):
    """A module that is on the device only while it is needed."""

    def onload(self) -> None:
        """Move the module to the device."""

    def offload(self) -> None:
        """Release the device's memory."""


class DeviceSlot:
    """Room on the device for one offloaded module at a time."""

    def __init__(self) -> None:
        self.current: OffloadedModule | None = None

    def enter(self, module: OffloadedModule | None) -> None:
        """Move a module (None: none) to the device in the place of the current one."""
        if self.current is not module:
            if self.current is not None:
                self.current.offload()
            self.current = None
            if module is not None:
                module.onload()
            self.current = module

    def before_use(self, module: OffloadedModule) -> BeforeUse:
        """Return the function to call before a module's weights are used."""
        return lambda: self.enter(module)


class ModuleOffload:
    """A network that is moved to the device as a whole. Its weights stay in host memory, so nothing is copied back.

    companions: objects with tensors of their own and a method `to(device)`, which move with the network.
    """

    def __init__(self, net: nn.Module, device: str):
        self.net, self.device = net, device
        self.host: dict[str, Tensor] = {}
        self.companions: WeakSet = WeakSet()

    def _tensors(self) -> dict[str, Tensor]:
        return dict(chain(self.net.named_parameters(), self.net.named_buffers()))

    @torch.inference_mode(False)
    def onload(self) -> None:
        """Copy the weights to the device."""
        tensors = self._tensors()
        self.host = {name: tensor.data for name, tensor in tensors.items()}
        for tensor in tensors.values():
            tensor.data = tensor.data.to(self.device, non_blocking=True)
        for companion in self.companions:
            companion.to(self.device)

    @torch.inference_mode(False)
    def offload(self) -> None:
        """Return to the weights in host memory."""
        for name, tensor in self._tensors().items():
            tensor.data = self.host.get(name, tensor.data)
        self.host = {}
        for companion in self.companions:
            companion.to("cpu")


class LazyModule:
    """A network that is read from disk when it is needed and dropped afterwards.

    put: hands the network, or None, to the object that uses it.
    """

    def __init__(self, make: Callable[[], nn.Module], put: Callable[[nn.Module | None], None]):
        self.make, self.put = make, put

    def onload(self) -> None:
        """Read the network."""
        self.put(self.make())

    def offload(self) -> None:
        """Drop the network."""
        self.put(None)


class AlwaysResident:
    """A network that needs no moving: it stays on the device, but for blocks that are streamed to it."""

    def onload(self) -> None:
        """Do nothing."""

    def offload(self) -> None:
        """Do nothing."""
