"""The text encoder of small models with a closed vocabulary of whole words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.t5 import ONE_TABLE, T5Config, T5Encoder
from longtake.models.encoders.token_limit import end_behind, unlimited


class WordText:
    """A `TextEncoder` with a closed vocabulary of whole words.

    length: tokens to which prompts are cut or padded (default: the tokenizer's, or 32). Padding is masked in the encoder
    and zero after it, as in Wan.
    """

    def __init__(self, encoder: T5Encoder, tokenizer: Tokenizer, length: int | None = None):
        self.encoder, self.tokenizer = encoder, tokenizer
        self.length = length or (tokenizer.padding or {}).get("length") or 32
        tokenizer.enable_truncation(self.length)
        tokenizer.enable_padding(pad_id=0, pad_token=tokenizer.id_to_token(0) or "", length=self.length)

    @classmethod
    def load(
        cls, encoder: Path | str, tokenizer: Path | str, dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> WordText:  # fmt: skip
        """Load the encoder of a folder with config.json and safetensors, and the tokenizer.json of another."""
        file = Path(tokenizer) / "tokenizer.json"
        try:
            words = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise weights.WeightsError(f"{file} is not a tokenizer: {error}") from error
        return cls(weights.load(T5Encoder, T5Config.read(encoder), encoder, ONE_TABLE, dtype, device), words)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts -> embeddings (P, L, D)."""
        found = self.tokenizer.encode_batch(list(prompts))
        device = self.encoder.shared.weight.device
        tokens_PL = torch.tensor([text.ids for text in found], device=device)
        mask_PL = torch.tensor([text.attention_mask for text in found], device=device)
        x_PLD = self.encoder(tokens_PL, mask_PL)
        return x_PLD * mask_PL[..., None].to(x_PLD.dtype)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Return the words of the prompt that are not in the vocabulary, as they are written."""
        whole = self._whole.encode(prompt, add_special_tokens=False)
        missing = [prompt[slice(*span)] for id, span in zip(whole.ids, whole.offsets) if id == self._unknown_id]
        return tuple(dict.fromkeys(missing))

    def cut_off(self, prompt: str) -> str:
        """Return the end of the prompt that lies behind `length` tokens."""
        return end_behind(prompt, self.tokenizer, self._whole)

    @cached_property
    def _whole(self) -> Tokenizer:
        return unlimited(self.tokenizer)

    @cached_property
    def _unknown_id(self) -> int | None:
        return self.tokenizer.token_to_id(getattr(self.tokenizer.model, "unk_token", None) or "<unk>")
