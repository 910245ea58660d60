"""Conditioning of a window: prompts, control signal, frame rate and LoRAs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from longtake.core.geometry import first_frame
from longtake.engine.control import ControlSignal
from longtake.engine.finite_check import check_encoded
from longtake.models.interfaces import Conditioning, PromptEmbedding, TextEncoder
from longtake.models.model import Model
from longtake.planning.script import Script
from longtake.planning.window import Window


class PromptCache:
    """Encoded prompts, each encoded once and kept while it is used. batch: videos that share the prompts.

    on_new: called with a prompt before it is encoded.
    """

    def __init__(self, encoder: TextEncoder, batch: int, on_new: Callable[[str], None] = lambda prompt: None):
        self.encoder, self.batch, self.on_new = encoder, batch, on_new
        self._known: dict[str, PromptEmbedding] = {}

    def __getitem__(self, prompt: str) -> PromptEmbedding:
        if prompt not in self._known:
            self.on_new(prompt)
            with torch.inference_mode():
                embedding = self.encoder.encode([prompt]).expand(self.batch, -1, -1)
            check_encoded(f"the prompt {prompt!r}", embedding)
            self._known[prompt] = PromptEmbedding(prompt, embedding)
        return self._known[prompt]

    def embedding(self, prompt: str) -> Tensor:
        """Return the token embeddings (L, D) of a prompt."""
        return self[prompt].embedding[0]

    def keep(self, prompts: Collection[str]) -> None:
        """Forget all other prompts."""
        self._known = {prompt: text for prompt, text in self._known.items() if prompt in prompts}


class Conditioner:
    """Turns a window into the model's conditioning. Nothing here depends on how far the video is.

    fps: frame rate that the model is conditioned on. control: a signal with values for every output frame.
    """

    def __init__(
        self, model: Model, prompts: PromptCache, negative_prompt: str, fps: float, control: ControlSignal | None = None
    ):
        self.prompts, self.negative_prompt, self.fps, self.control = prompts, negative_prompt, fps, control
        self.temporal_compression, self.device = model.vae.temporal_compression, model.device

    @property
    def negative(self) -> PromptEmbedding:
        """The encoded negative prompt."""
        return self.prompts[self.negative_prompt]

    def for_window(self, window: Window, script: Script, clip_first: int, new: Sequence[int]) -> Conditioning:
        """Encode what a window is conditioned on.

        clip_first: the first output frame of its clip. new: its latent frames that no window before it had in view; the
        first of them decides the scene where the whole window follows one.
        """
        frame = lambda latent: clip_first + first_frame(latent, self.temporal_compression)
        now = script.at(frame(new[0]))
        scenes = [script.at(frame(f)) if window.text == "frame" else now for f in window.frames]
        prompts = list(dict.fromkeys(scene.prompt for scene in scenes))
        texts = tuple(self.prompts[prompt] for prompt in prompts)
        self.prompts.keep({*prompts, self.negative_prompt})
        control = None
        if self.control is not None:
            control = self.control.of_latents(window.frames, clip_first, self.temporal_compression).to(self.device)
        return Conditioning(texts, tuple(prompts.index(s.prompt) for s in scenes), self.fps, now.lora, control)
