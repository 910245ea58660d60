"""The parts of a model take turns on a device: text encoder, network, image encoder, codec.

Each announces itself before it uses its weights; whoever was there leaves. What is told to the engine (a Session, a
Codec, a TextEncoder) looks as it does without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn

from longtake.models.base import Codec, Cond, Decoder, Past, Session, TextEncoder
from longtake.plan import Window

Turn = Callable[[], None]  # called before the weights of a part are used


class Part(Protocol):
    """A part of a model that comes to the device when it is needed and leaves when another one is."""

    def come(self) -> None:
        """Be on the device."""

    def leave(self) -> None:
        """Give back the device's memory."""


class Stage:
    """Parts take turns: at most one of them is on the device."""

    def __init__(self) -> None:
        self.here: Part | None = None

    def enter(self, part: Part | None) -> None:
        """Let this part (None: no part) be there instead of the one before."""
        if self.here is not part:
            if self.here is not None:
                self.here.leave()
            self.here = None
            if part is not None:
                part.come()
            self.here = part

    def turn(self, part: Part) -> Callable[[], None]:
        """What a network calls before it uses its weights."""
        return lambda: self.enter(part)


class Whole:
    """A network that comes as a whole. Its weights stay in host memory, so nothing is copied back.

    also: objects with tensors of their own that come and go with it.
    """

    def __init__(self, net: nn.Module, device: str):
        self.net, self.device = net, device
        self.host: dict[str, Tensor] = {}
        self.also: WeakSet = WeakSet()

    @torch.inference_mode(False)
    def come(self) -> None:
        """See `Part`."""
        self.host = {name: weight.data for name, weight in self.net.named_parameters()}
        for weight in self.net.parameters():
            weight.data = weight.data.to(self.device, non_blocking=True)
        for other in self.also:
            other.to(self.device)

    @torch.inference_mode(False)
    def leave(self) -> None:
        """See `Part`."""
        for name, weight in self.net.named_parameters():
            weight.data = self.host.get(name, weight.data)
        self.host = {}
        for other in self.also:
            other.to("cpu")


class Lazy:
    """A network that is read from disk when it comes and dropped when it leaves. put: gives it (or None) to its user."""

    def __init__(self, make: Callable[[], nn.Module], put: Callable[[nn.Module | None], None]):
        self.make, self.put = make, put

    def come(self) -> None:
        """See `Part`."""
        self.put(self.make())

    def leave(self) -> None:
        """See `Part`."""
        self.put(None)


class Stays:
    """A network whose blocks come by themselves; the little beside them is always there."""

    def come(self) -> None:
        """See `Part`."""

    def leave(self) -> None:
        """See `Part`."""


# ---------------------------------------------------------------- what the engine is given
class TurnSession:
    """A Session whose network takes its turn."""

    def __init__(self, session: Session, turn: Turn):
        self.session, self.turn = session, turn

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        self.turn()
        self.session.begin(window, past, cond)

    def __call__(self, x: Tensor, level: Tensor, **how: Any) -> Tensor:
        """See `Session`."""
        self.turn()
        return self.session(x, level, **how)

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""
        self.turn()
        self.session.finish(window, x)

    def state(self) -> dict[str, Tensor]:
        """See `Session`; what it has put off needs the network."""
        self.turn()
        return self.session.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
        self.turn()
        self.session.load(state)


class TurnCodec:
    """A Codec that takes its turn; the state of its decoders comes and goes with it."""

    def __init__(self, codec: Codec, part: Whole, turn: Turn):
        self.codec, self.part, self.turn = codec, part, turn
        self.stride, self.scale, self.channels, self.reach = codec.stride, codec.scale, codec.channels, codec.reach

    def encode(self, frames: Tensor) -> Tensor:
        """See `Codec`."""
        self.turn()
        return self.codec.encode(frames)

    def decoder(self) -> Decoder:
        """See `Codec`."""
        decoder = self.codec.decoder()
        self.part.also.add(decoder)
        return TurnDecoder(decoder, self)


class TurnDecoder:
    """A Decoder of a codec that takes its turn."""

    def __init__(self, decoder: Decoder, codec: TurnCodec):
        self.decoder, self.codec = decoder, codec

    def push(self, latents: Tensor) -> Tensor:
        """See `Decoder`."""
        self.codec.turn()
        return self.decoder.push(latents)

    def flush(self) -> Tensor:
        """See `Decoder`."""
        self.codec.turn()
        return self.decoder.flush()

    def __copy__(self) -> TurnDecoder:
        self.codec.turn()
        twin = cast(Any, self.decoder).__copy__()
        self.codec.part.also.add(twin)
        return TurnDecoder(twin, self.codec)


class TurnText:
    """A TextEncoder that takes its turn."""

    def __init__(self, text: TextEncoder, turn: Turn):
        self.text, self.turn = text, turn

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        self.turn()
        return self.text.encode(prompts)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """See `TextEncoder`."""
        return self.text.unknown(prompt)


def first(turn: Turn, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, behind somebody's turn."""

    def called(*arguments: Any) -> Any:
        turn()
        return function(*arguments)

    return called


def back(turn: Turn, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, and then it is somebody's turn again."""

    def called(*arguments: Any) -> Any:
        result = function(*arguments)
        turn()
        return result

    return called
