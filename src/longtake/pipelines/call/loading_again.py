"""Loading a pipeline's model again under the method names of diffusers: elsewhere, offloaded, or in another process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from longtake.core.files import path_of
from longtake.models.model import Model
from longtake.models.registry import ModelError
from longtake.pipelines.call.loading import Source
from longtake.pipelines.call.prompts import python_words

P = TypeVar("P", bound="LoadingMethods")


class LoadingMethods:
    """What diffusers calls to move, offload, save and pickle a pipeline. ModelError if its model came from memory."""

    model: Model
    source: Source | None
    loras: dict[str, tuple[str, float]]
    progress_bar: dict[str, Any]

    def to(self: P, device: str | torch.device | torch.dtype | None = None, dtype: Any = None) -> P:
        """Load the model again on a device or in a precision; returns the pipeline."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        return self._reload(device=device, dtype=dtype)

    def enable_model_cpu_offload(self: P) -> P:
        """Keep whole idle models in host memory; frames stay the same."""
        return self._reload(offload="model")

    def enable_sequential_cpu_offload(self: P) -> P:
        """Keep whole idle models and idle transformer blocks in host memory; frames stay the same."""
        return self._reload(offload="blocks")

    def save_pretrained(self, folder: str | Path) -> Path:
        """Copy the checkpoint's files into a new folder, which `longtake.load` opens; return the folder."""
        return self._source().save(self.model, path_of("the folder", folder))

    def _reload(self: P, **changes: Any) -> P:
        with python_words():
            self.source = self._source().with_options(**changes)
            self.model = self.source.open()
        return self

    def _source(self) -> Source:
        if self.source is None:
            raise ModelError(
                "this pipeline was made of a model in memory, so it cannot be loaded again: use longtake.load"
            )
        return self.source

    def __reduce__(self) -> Any:
        return _opened_again, (type(self), self._source(), self.loras, self.progress_bar)


def _opened_again(kind: Any, source: Source, loras: Mapping[str, Any], bar: Mapping[str, Any]) -> Any:
    """Open a pickled pipeline in another process."""
    pipeline = kind(source.open(), source)
    pipeline.loras, pipeline.progress_bar = dict(loras), dict(bar)
    return pipeline
