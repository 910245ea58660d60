"""The runtime of one model: it applies the load options to every part, whatever family the parts belong to."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import nn

from longtake.core.process.notices import notice
from longtake.models.checkpoints.quantised import Fp8Parameter
from longtake.models.interfaces import VAE, Session, TextEncoder
from longtake.models.runtime.attention import choose_attention
from longtake.models.runtime.block_offload import StreamedBlocks
from longtake.models.runtime.compile import compile_blocks
from longtake.models.runtime.load_options import LoadOptions, resolve_device
from longtake.models.runtime.model_offload import AlwaysResident, DeviceSlot, LazyModule, ModuleOffload, OffloadedModule
from longtake.models.runtime.network import BlockNetwork, blocks_name, replace_blocks
from longtake.models.runtime.offloaded_components import OffloadedSession, OffloadedTextEncoder, OffloadedVAE
from longtake.models.runtime.transfer import CudaStreamTransfer, SameDevice, Transfer
from longtake.models.runtime.unused_gpu import unused_gpu

Net = TypeVar("Net", bound=nn.Module)


class LoadableTextEncoder(TextEncoder, Protocol):
    """A TextEncoder whose network can be set and removed."""

    encoder: Any


class ModelRuntime:
    """Applies the load options to the parts of one model while its family assembles them.

    A family loads each network on `storage` and passes it through the method for its kind; the result is used in the
    network's place. transfer: copies the streamed blocks (default: a CUDA stream, or nothing on a CPU).
    """

    def __init__(self, options: LoadOptions, transfer: Transfer | None = None):
        self.options, self.transfer = options, transfer
        self.device = resolve_device(options.device)
        if options.device == "auto" and self.device == "cpu" and (why := unused_gpu()):
            notice(f"{why}; this video is computed on the CPU")
        self.slot = DeviceSlot()
        self.offloaded: dict[nn.Module, OffloadedModule] = {}

    @property
    def offloads(self) -> bool:
        """Whether parts of the model take turns on the device."""
        return self.options.offload != "none"

    @property
    def storage(self) -> str:
        """The device on which weights are stored while they are not used."""
        return "cpu" if self.offloads else self.device

    def dtype(self, own: bool = False) -> torch.dtype:
        """Return the dtype of transformer and text encoder.

        By default bfloat16 on a GPU, float32 on a CPU and for `own` models, which are trained in float32.
        """
        if self.options.torch_dtype is not None:
            return self.options.torch_dtype
        return torch.float32 if own or self._on("cpu") else torch.bfloat16

    def fp8_weights(self, blocks: str) -> str:
        """Return how the names of weights begin that are loaded as float8, given the name of the network's blocks."""
        return rf"{blocks}\.\d+\." if self.options.fp8 else ""

    def _on(self, kind: str) -> bool:
        return torch.device(self.device).type == kind

    # ------------------------------------------------------------ networks
    def network(self, net: Net) -> Net:
        """Prepare a `BlockNetwork`: attention backend, torch.compile, float8 weights and offloading."""
        blocks = cast(BlockNetwork, net).blocks
        dtype = next(weight.dtype for weight in blocks.parameters() if not isinstance(weight, Fp8Parameter))
        cast(BlockNetwork, net).attend = choose_attention(self.options.attention, self.device, dtype)
        if self.options.compile:
            compile_blocks(blocks, self.device)
        if self.options.fp8 or self.options.offload == "blocks":
            streamed = StreamedBlocks(blocks, self._transfer())
            replace_blocks(net, streamed)
            if self.options.fp8:
                streamed.quantize()
        if self.options.offload == "blocks":
            self._keep_resident(net)
        if self.offloads and self._on("cuda"):
            pin(net)
        self.offloaded[net] = ModuleOffload(net, self.device) if self.options.offload == "model" else AlwaysResident()
        return net

    def _transfer(self) -> Transfer:
        if self.transfer is not None:
            return self.transfer
        streamed = self.options.offload == "blocks" and self._on("cuda")
        return CudaStreamTransfer(self.device) if streamed else SameDevice()

    def _keep_resident(self, net: nn.Module) -> None:
        """Move all tensors but the weights of the blocks to the device."""
        prefix = f"{blocks_name(net)}."
        for name, weight in net.named_parameters():
            if not name.startswith(prefix):
                weight.data = weight.data.to(self.device)
        for buffer in net.buffers():
            buffer.data = buffer.data.to(self.device)

    def session(self, make: Callable[[], Session], net: nn.Module) -> Callable[[], Session]:
        """Return a function that makes sessions of a prepared network."""
        if not self.offloads:
            return make
        return lambda: OffloadedSession(make(), self.slot.before_use(self.offloaded[net]))

    def restore_after(self, function: Callable[..., Any] | None, net: nn.Module) -> Callable[..., Any] | None:
        """Wrap a function that uses other modules in the middle of a session; the network is moved back afterwards."""
        if function is None or not self.offloads:
            return function
        before_use, inner = self.slot.before_use(self.offloaded[net]), function

        def restored(*arguments: Any) -> Any:
            result = inner(*arguments)
            before_use()
            return result

        return restored

    # ------------------------------------------------------------ other parts
    def vae(self, vae: Any) -> VAE:
        """Offload a VAE; its decoders have a method `to(device)` that moves their state."""
        if not self.offloads:
            return vae
        module = ModuleOffload(vae, self.device)
        return OffloadedVAE(vae, module, self.slot.before_use(module))

    def module(self, net: Net, *methods: str) -> Net:
        """Offload any other module, such as an image encoder, that is used through these methods only."""
        if self.offloads:
            before_use = self.slot.before_use(ModuleOffload(net, self.device))
            for name in methods:
                setattr(net, name, _after(before_use, getattr(net, name)))
        return net

    def text_encoder(self, text: LoadableTextEncoder, load: Callable[[], nn.Module]) -> TextEncoder:
        """Give a text encoder its network, or with offloading a way to read it when there are prompts to encode."""
        if not self.offloads:
            text.encoder = load()
            return text
        module = LazyModule(load, lambda encoder: setattr(text, "encoder", encoder))
        return OffloadedTextEncoder(text, self.slot.before_use(module))

    def release(self) -> None:
        """Move all weights back to storage, where LoRAs are merged into them."""
        if self.options.offload == "model":
            self.slot.enter(None)


def _after(first: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, with `first` called before it."""

    @wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        first()
        return function(*arguments, **options)

    return called


def pin(net: nn.Module) -> None:
    """Move the weights in host memory to page-locked memory, from which a GPU copies while it computes."""
    for weight in net.parameters():
        if weight.device.type == "cpu":
            weight.data = weight.data.pin_memory()
    for module in net.modules():
        if isinstance(module, StreamedBlocks):
            module.pin_scales()
