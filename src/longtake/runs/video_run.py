"""A video and the run directory that it is generated into, new or opened again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from longtake.media.video_io import Encoding
from longtake.models import load as load_model
from longtake.models.model import Model
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.settings import loras as lora_files
from longtake.pipelines.settings.request import Inputs
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.pipelines.settings.video_continuation import Generation
from longtake.runs.files.input_files import checked_inputs
from longtake.runs.files.manifest import Manifest, describe, manifest_of


@dataclass(frozen=True)
class VideoRun:
    """A video and the folder that it is generated into. inputs: those that the settings record. encoding: of video.mp4.

    metadata: whether video.mp4 carries the settings (None: as older runs recorded it, it does not).
    """

    settings: RunSettings
    model: Model
    inputs: Inputs
    folder: Path
    encoding: Encoding = field(default_factory=Encoding)
    metadata: bool | None = True

    def generation(self) -> Generation:
        """Return the generation of the video, from its start."""
        return self.settings.generation(self.model, self.inputs)

    @property
    def manifest(self) -> Manifest:
        """The description of the run that run.json holds."""
        settings = self.settings
        return describe(
            settings.facts(), weights=self.model.info.digest, fps=settings.fps,
            size=settings.video_model(self.model).size, frames=settings.frames, device=self.model.device,
            encoding=self.encoding, metadata=self.metadata,
        )  # fmt: skip


def reopen(
    folder: Path, device: str | None = None, offload: str | None = None,
    load: Callable[[str, LoadOptions], Model] = lambda name, options: load_model(name, load_options=options),
) -> VideoRun:  # fmt: skip
    """Open the run in a folder from its own records, on another device or with another offloading if given.

    load: what loads the model of a name.
    """
    manifest = manifest_of(folder)
    torch.set_num_threads(manifest.threads)
    settings = RunSettings.from_facts(manifest.settings)
    lora_files.check_unchanged(settings.loras)
    copies = checked_inputs(folder, settings.inputs)
    options = LoadOptions(**{"device": "cpu", **settings.load})
    options = replace(options, device=device or options.device, offload=offload or options.offload)
    model = load(settings.model, options)
    return VideoRun(settings, model, Inputs(**copies), folder, manifest.encoding, manifest.metadata)
