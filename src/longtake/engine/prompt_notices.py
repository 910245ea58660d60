"""What a text encoder does not read of a prompt: words behind its length, words that a closed vocabulary lacks."""

from __future__ import annotations

from collections.abc import Iterable

from longtake.core.process.notices import notice
from longtake.models.model import Model
from longtake.planning.script import Script

SHOWN = 60  # characters of a prompt that a notice quotes
MOST_WORDS = 12  # that a notice lists


class PromptNotices:
    """Says once of every prompt what the text encoder of a model does not read of it."""

    def __init__(self, model: Model):
        self.model = model
        self._said: set[str] = set()

    def say(self, prompt: str, name: str = "the prompt") -> None:
        """Give notices for a prompt. name: which prompt it is."""
        if prompt in self._said:
            return
        self._said.add(prompt)
        encoder, own = self.model.text_encoder, self.model.name
        if not prompt.strip():
            if name == "the prompt" and self.model.defaults.guidance_scale <= 1:
                notice(
                    f"the prompt is empty, and {own} uses no guidance: it may not have been trained without captions"
                )
            return
        if rest := encoder.cut_off(prompt):
            notice(f"{name} {_short(prompt)!r} is longer than {own} reads: these words are cut off: {rest}")
        if unknown := encoder.unknown(prompt):
            hint = f" {self.model.info.vocabulary}" if self.model.info.vocabulary else ""
            notice(f"{own} was not trained with these words of {name} {_short(prompt)!r}: {_listed(unknown)}.{hint}")

    def say_all(self, script: Script, negative: str) -> None:
        """Give notices for all prompts of a script, and for the negative prompt unless it is the model's own."""
        for scene in script.scenes:
            self.say(scene.prompt)
        if negative == self.model.defaults.negative_prompt:
            self._said.add(negative)
        self.say(negative, "the negative prompt")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1].rstrip() + "…"


def _listed(words: Iterable[str]) -> str:
    listed = list(words)
    more = f" and {len(listed) - MOST_WORDS} more" if len(listed) > MOST_WORDS else ""
    return ", ".join(listed[:MOST_WORDS]) + more
