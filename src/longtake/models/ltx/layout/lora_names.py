"""The names of LTX transformer modules in LoRA files."""

from __future__ import annotations

from longtake.models.lora.key_formats import KeyFormat
from longtake.models.ltx.layout.single_file import NETWORK

KEY_FORMAT = KeyFormat(names=NETWORK, words=("patchify_proj", "adaln_single", "q_norm", "k_norm"))
