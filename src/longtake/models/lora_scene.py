"""The LoRAs that scenes ask for, put into the network window by window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from longtake.models.base import Adapter, Cond, Loras, Model, Past, Session, Text
from longtake.models.lora import Merged
from longtake.models.lora_file import Lora, read
from longtake.models.lora_keys import Spelling
from longtake.models.weights import WeightsError, brief
from longtake.plan import Window


class Files:
    """The LoRAs that scenes ask for, by file and strength, merged into one network: an `Adapter`.

    at_rest: called before weights change; brings them to where they lie when they are not at work. targets: ends of the
    modules' names that a LoRA of every scene changes, all of them, unless its file says that it was trained on others.
    """

    def __init__(
        self, net: nn.Module, spelling: Spelling | None = None, at_rest: Callable[[], None] = lambda: None,
        targets: Sequence[str] = (),
    ):  # fmt: skip
        self.net, self.spelling, self.at_rest = net, spelling, at_rest
        ends = tuple(f".{target}" for target in targets)
        self.wanted = [name for name, _ in net.named_modules() if name.endswith(ends)]
        self.merged = Merged(net)
        self.now: Loras = ()
        self.read: dict[str, Lora] = {}  # those in use

    def check(self, loras: Loras) -> None:
        """See `Adapter`."""
        found = [self.read.get(path) or read(path, self.net, self.spelling) for path, _ in loras]
        if found and not any(lora.told or set(self.wanted) <= set(lora.modules) for lora in found):
            most = max(found, key=lambda lora: len(set(self.wanted) & set(lora.modules)))
            lost = [name for name in self.wanted if name not in most.modules]
            raise WeightsError(
                f"{most.name} changes {len(self.wanted) - len(lost)} of the {len(self.wanted)} modules that this model's "
                f"LoRA changes: it lacks {brief(lost)} and has {brief(most.modules)}: fetch it again, or name the model's "
                "own LoRA beside it"
            )

    def use(self, loras: Loras) -> None:
        """See `Adapter`."""
        if loras == self.now:
            return
        self.read = {path: self.read.get(path) or read(path, self.net, self.spelling) for path, _ in loras}
        self.at_rest()
        self.merged.use([(self.read[path], strength) for path, strength in loras])
        self.now = loras


class Adapted:
    """A Session of a network that has the LoRAs of the window at every call, also when rollouts take turns.

    What the session inside remembers of a text is of the network with its LoRAs, so their names are part of its key.
    """

    def __init__(self, session: Session, adapter: Adapter):
        self.session, self.adapter = session, adapter
        self.loras: Loras = ()

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        if cond.loras != self.loras:
            self.state()  # what the session has put off is done with the LoRAs of its time
        self.loras = cond.loras
        self.adapter.use(self.loras)
        self.session.begin(window, past, replace(cond, texts=tuple(self._with_loras(text) for text in cond.texts)))

    def __call__(self, x: Tensor, level: Tensor, **how: Any) -> Tensor:
        """See `Session`."""
        self.adapter.use(self.loras)
        return self.session(x, level, **how)

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""
        self.adapter.use(self.loras)
        self.session.finish(window, x)

    def state(self) -> dict[str, Tensor]:
        """See `Session`; the LoRAs follow from the script."""
        self.adapter.use(self.loras)
        return self.session.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
        self.session.load(state)

    def _with_loras(self, text: Text) -> Text:
        return replace(text, key=f"{text.key} with {self.loras}") if self.loras else text


def adaptable(
    model: Model, net: nn.Module, spelling: Spelling | None = None, at_rest: Callable[[], None] = lambda: None,
    targets: Sequence[str] = (),
) -> Model:  # fmt: skip
    """The model, taking the LoRAs that scenes ask for into its network. at_rest, targets: see `Files`."""
    files, session = Files(net, spelling, at_rest, targets), model.session
    return replace(model, session=lambda: Adapted(session(), files), adapter=files)
