"""How LoRA files call the modules of the LTX transformer, and which of them the public trainer adapts."""

from __future__ import annotations

from longtake.models.lora_keys import Spelling
from longtake.models.ltx_original import NETWORK

SPELLING = Spelling(names=NETWORK, words=("patchify_proj", "adaln_single", "q_norm", "k_norm"))

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # of self- and cross-attention; in-context LoRAs add the feed-forward
