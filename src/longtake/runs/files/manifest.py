"""The manifest, run.json: everything that decides the bytes of a video, written once when the run starts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from longtake.media.video_io import Encoding
from longtake.pipelines.settings.machine import machine_facts, software_versions, system_facts
from longtake.runs.files import durable
from longtake.runs.files.errors import RunError
from longtake.runs.files.layout import Layout, check_entries
from longtake.runs.files.schema import RUN_SCHEMA, Keys, check_keys, check_schema, key

MOST_THREADS = 4096
MANIFEST_KEYS: Keys = {
    "schema": key("schema number of the run directory", int),
    "settings": key("resolved options of the generation: model, strategy and its options, script, guidance, ...", dict),
    "weights": key("SHA-256 that identifies the weights of the model", str),
    "video": key("format of the output, see VIDEO_KEYS", dict),
    "threads": key("torch threads; a resume sets the same number", int),
    "versions": key("versions of longtake, torch and av", dict),
    "machine": key("instruction set, precision and device; a resume compares them", dict),
    "about": key("facts of the system for the reader; a resume does not compare them", dict),
}  # the keys of run.json
VIDEO_KEYS: Keys = {
    "fps": key("frame rate, as a fraction", str),
    "width": key("width in pixels", int),
    "height": key("height in pixels", int),
    "frames": key("output frames in all; null is endless", int, None),
    "segment": key("output frames in a segment", int),
    "crf": key("constant quality of x264, 0 to 51", int),
    "preset": key("preset of x264", str),
    "metadata": key("whether video.mp4 carries the settings; absent in older runs: it does not", bool, optional=True),
}  # the keys of run.json's "video"


@dataclass(frozen=True)
class Manifest:
    """Everything that decides the bytes of a video.

    settings: the resolved options, flat and JSON-able. weights: SHA-256 that identifies them. size: (height, width).
    frames: output frames in all, None is endless. segment: frames in a segment. metadata: whether video.mp4 carries the
    settings (None: an older run, whose does not). threads: of torch.
    versions and machine are compared on resume; about is for the reader. Raises RunError for impossible values.
    """

    settings: Mapping[str, Any]
    weights: str
    fps: Fraction
    size: tuple[int, int]
    frames: int | None
    segment: int
    encoding: Encoding = field(default_factory=Encoding)
    metadata: bool | None = None
    threads: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.segment < 1:
            raise RunError(f"a segment must have at least one frame, not {self.segment}")
        if self.fps <= 0:
            raise RunError(f"fps must be positive, not {self.fps}")
        if not 1 <= self.threads <= MOST_THREADS:
            raise RunError(f"threads must be 1 to {MOST_THREADS}, not {self.threads}")

    @property
    def seed(self) -> int:
        """The seed of the noise, which is one of the settings."""
        sampling = self.settings.get("sampling", {})
        return sampling.get("seed", 0) if isinstance(sampling, Mapping) else 0

    def video(self) -> dict[str, Any]:
        """Return the format of the output, with the keys of VIDEO_KEYS."""
        height, width = self.size
        carries = {} if self.metadata is None else {"metadata": self.metadata}
        return {
            "fps": str(self.fps),
            "width": width,
            "height": height,
            "frames": self.frames,
            "segment": self.segment,
            "crf": self.encoding.crf,
            "preset": self.encoding.preset,
            **carries,
        }


def describe(
    settings: Mapping[str, Any],
    *,
    weights: str,
    fps: float | Fraction,
    size: tuple[int, int],
    frames: int | None,
    segment: int | None = None,
    encoding: Encoding | None = None,
    device: str = "cpu",
    metadata: bool | None = None,
) -> Manifest:
    """Return the manifest of a run that starts now on this machine. segment: frames in a segment (default: one second).

    metadata: whether video.mp4 carries the settings, which must then be those of a `RunSettings`.
    """
    rate = Fraction(fps).limit_denominator(1001)
    return Manifest(
        settings=json.loads(json.dumps(dict(settings))),
        weights=weights,
        fps=rate,
        size=size,
        frames=frames,
        segment=segment if segment is not None else max(1, math.floor(rate + Fraction(1, 2))),
        encoding=encoding or Encoding(),
        metadata=metadata,
        threads=torch.get_num_threads(),
        versions=software_versions(),
        machine=machine_facts(device),
        about=system_facts(),
    )


def save(path: Path, manifest: Manifest) -> None:
    """Write run.json durably."""
    durable.write_file(path, [encoded(manifest)])


def encoded(manifest: Manifest) -> bytes:
    """Return the contents of run.json. Raises SchemaError if its keys are not those of its tables."""
    document = {
        "schema": RUN_SCHEMA,
        "settings": dict(manifest.settings),
        "weights": manifest.weights,
        "video": manifest.video(),
        "threads": manifest.threads,
        "versions": dict(manifest.versions),
        "machine": dict(manifest.machine),
        "about": dict(manifest.about),
    }
    check_keys(document, MANIFEST_KEYS, "run.json")
    check_keys(manifest.video(), VIDEO_KEYS, "video of run.json")
    return json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"


def sha256(path: Path) -> str:
    """Return the SHA-256 of run.json; "" if there is none."""
    found = durable.file_digest(path)
    return "" if found is None else found.sha256


def load(path: Path) -> Manifest:
    """Read run.json. Raises RunError if it is missing or damaged, or if another version of longtake wrote it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        check_schema(path.parent, document["schema"])
        check_keys(document, MANIFEST_KEYS, path.name)
        check_keys(document["video"], VIDEO_KEYS, f"video of {path.name}")
        return _manifest(document)
    except FileNotFoundError:
        raise RunError(
            f"{path.parent} is not a run directory (it has no {path.name}): give the folder that `longtake generate` made"
        ) from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}): put back a copy of it, or start a run in a new folder") from error


def manifest_of(folder: Path | str) -> Manifest:
    """Return the manifest of a run directory. Raises RunError if the folder is none, or holds links or devices."""
    layout = Layout(Path(folder))
    check_entries(layout)
    return load(layout.manifest)


def check_version(path: Path) -> None:
    """Raise RunError if another version of longtake wrote a run.json that can be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(document, dict) and "schema" in document:
        check_schema(path.parent, document["schema"])


def _manifest(document: Mapping[str, Any]) -> Manifest:
    video = document["video"]
    return Manifest(
        settings=document["settings"],
        weights=document["weights"],
        fps=Fraction(video["fps"]),
        size=(video["height"], video["width"]),
        frames=video["frames"],
        segment=video["segment"],
        encoding=Encoding(video["crf"], video["preset"]),
        metadata=video.get("metadata"),
        threads=document["threads"],
        versions=document["versions"],
        machine=document["machine"],
        about=document["about"],
    )
