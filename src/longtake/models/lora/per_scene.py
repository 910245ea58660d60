"""The LoRAs that scenes name, merged into the network window by window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from longtake.core.process.notices import notice
from longtake.models.checkpoints.loading import WeightsError, brief
from longtake.models.interfaces import Conditioning, ContextFrames, LoraAdapter, Loras, PromptEmbedding, Session
from longtake.models.lora.delta import Lora
from longtake.models.lora.key_formats import KeyFormat
from longtake.models.lora.merge import MergedLoras
from longtake.models.lora.read import read
from longtake.planning.window import Window


class LoraSet:
    """The LoRA files of one network: a `LoraAdapter`.

    release: called before weights change, so that offloaded weights are in host memory. targets: ends of the names of
    modules that at least one LoRA of every scene must change, all of them, unless its file lists its own targets.
    partial: apply files that fit the network in part.
    """

    def __init__(
        self, net: nn.Module, key_format: KeyFormat | None = None, release: Callable[[], None] = lambda: None,
        targets: Sequence[str] = (), partial: bool = False,
    ):  # fmt: skip
        self.net, self.key_format, self.release, self.partial = net, key_format, release, partial
        ends = tuple(f".{target}" for target in targets)
        self.required = [name for name, _ in net.named_modules() if name.endswith(ends)]
        self.merged = MergedLoras(net)
        self.current: Loras = ()
        self.files: dict[str, Lora] = {}  # those in use, by path
        self.noted: set[str] = set()

    def check(self, loras: Loras) -> None:
        """Raise WeightsError if one of the files does not fit, or all lack modules that the model requires."""
        found = [self._read(path) for path, _ in loras]
        required = set(self.required)
        for note in dict.fromkeys(note for lora in found for note in lora.notes):
            if note not in self.noted:
                self.noted.add(note)
                notice(note)
        if (
            found
            and not self.partial
            and not any(lora.lists_targets or required <= set(lora.modules) for lora in found)
        ):
            most = max(found, key=lambda lora: len(required & set(lora.modules)))
            lost = [name for name in self.required if name not in most.modules]
            raise WeightsError(
                f"{most.name} changes {len(required) - len(lost)} of the {len(required)} modules that this model's LoRA "
                f"changes: it lacks {brief(lost)} and has {brief(most.modules)}: fetch it again, name the model's own "
                "LoRA beside it, or apply what there is with --lora-partial"
            )

    def use(self, loras: Loras) -> None:
        """Merge exactly these LoRAs; () restores the network's own weights bit for bit."""
        if loras == self.current:
            return
        self.files = {path: self._read(path) for path, _ in loras}
        self.release()
        self.merged.use([(self.files[path], strength) for path, strength in loras])
        self.current = loras

    def _read(self, path: str) -> Lora:
        return self.files.get(path) or read(path, self.net, self.key_format, partial=self.partial)


class LoraSession:
    """A Session whose network has the LoRAs of the window at every call, also when several rollouts share it.

    Keys and values of a prompt depend on the LoRAs, so the LoRAs are part of the prompt's key.
    """

    def __init__(self, session: Session, adapter: LoraAdapter):
        self.wrapped, self.session, self.adapter = (session,), session, adapter
        self.loras: Loras = ()

    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Prepare for a window with the LoRAs of its scene."""
        if cond.loras != self.loras:
            self.state()  # computes the keys and values that the session has deferred, with the LoRAs of their window
        self.loras = cond.loras
        self.adapter.use(self.loras)
        self.session.begin(window, context, replace(cond, texts=tuple(self._with_loras(text) for text in cond.texts)))

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        """Return the velocity (B C F H W) (see `Session`)."""
        self.adapter.use(self.loras)
        return self.session(x, sigma, **options)

    def finish(self, window: Window, x: Tensor) -> None:
        """End a window (see `Session.finish`)."""
        self.adapter.use(self.loras)
        self.session.finish(window, x)

    def state(self) -> dict[str, Tensor]:
        """Return the session's state; the LoRAs follow from the script."""
        self.adapter.use(self.loras)
        return self.session.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state."""
        self.session.load(state)

    def _with_loras(self, text: PromptEmbedding) -> PromptEmbedding:
        return replace(text, key=f"{text.key} with {self.loras}") if self.loras else text


def with_loras(make: Callable[[], Session], adapter: LoraAdapter) -> Callable[[], Session]:
    """Return a function that makes sessions whose network has the LoRAs of each window."""
    return lambda: LoraSession(make(), adapter)
