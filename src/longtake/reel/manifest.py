"""The manifest, run.json: all that decides what a video looks like, and how to tell two of them apart."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch

import longtake
from longtake.media import Encoding
from longtake.reel import disk
from longtake.reel.disk import ReelError

SCHEMA = 1
FIXED = ("fps", "width", "height", "frames", "segment", "crf", "preset")  # a reel cannot change these half-way


@dataclass(frozen=True)
class Manifest:
    """What a reel is.

    settings: whatever the caller resolved (model, plan and its options, script, guidance, ...), json-able, flat.
    weights: SHA-256 that identifies them. size: (height, width). frames: None is endless. segment: frames per segment.
    threads: of torch; sums differ between numbers of threads. versions and machine are compared on resume too;
    about is only for the reader.
    """

    settings: Mapping[str, Any]
    seed: int
    weights: str
    fps: Fraction
    size: tuple[int, int]
    frames: int | None
    segment: int
    encoding: Encoding = field(default_factory=Encoding)
    threads: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.segment < 1:
            raise ReelError(f"a segment must have at least one frame, not {self.segment}")
        if self.fps <= 0:
            raise ReelError(f"fps must be positive, not {self.fps}")


def describe(
    settings: Mapping[str, Any],
    *,
    seed: int,
    weights: str,
    fps: float | Fraction,
    size: tuple[int, int],
    frames: int | None,
    segment: int | None = None,
    encoding: Encoding | None = None,
    device: str = "cpu",
) -> Manifest:
    """The manifest of a run on this machine as it is now. segment: frames per segment (default: one second)."""
    rate = Fraction(fps).limit_denominator(1001)
    return Manifest(
        settings=json.loads(json.dumps(dict(settings))),
        seed=seed,
        weights=weights,
        fps=rate,
        size=size,
        frames=frames,
        segment=segment if segment is not None else max(1, math.floor(rate + Fraction(1, 2))),
        encoding=encoding or Encoding(),
        threads=torch.get_num_threads(),
        versions={"longtake": longtake.__version__, "torch": torch.__version__, "av": av.__version__},
        machine=_machine(device),
        about={"python": platform.python_version(), "system": platform.platform(), "processor": _processor()},
    )


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the block on as many torch threads as a reel was begun with: sums differ between numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _machine(device: str) -> dict[str, Any]:
    """What else decides the last bit of a sum."""
    facts: dict[str, Any] = {
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": torch.get_float32_matmul_precision(),
        "device": torch.device(device).type,
    }
    if facts["device"] == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}
        facts |= {"cudnn": torch.backends.cudnn.version(), "tf32": torch.backends.cuda.matmul.allow_tf32}
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


# ---------------------------------------------------------------- on disk
def save(path: Path, manifest: Manifest) -> None:
    """Write run.json, durably."""
    height, width = manifest.size
    document = {
        "schema": SCHEMA,
        "settings": dict(manifest.settings),
        "seed": manifest.seed,
        "weights": manifest.weights,
        "video": {
            "fps": str(manifest.fps),
            "width": width,
            "height": height,
            "frames": manifest.frames,
            "segment": manifest.segment,
            "crf": manifest.encoding.crf,
            "preset": manifest.encoding.preset,
        },
        "threads": manifest.threads,
        "versions": dict(manifest.versions),
        "machine": dict(manifest.machine),
        "about": dict(manifest.about),
    }
    disk.write(path, [json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"])


def load(path: Path) -> Manifest:
    """Read run.json. ReelError if it cannot be understood."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        if schema == SCHEMA:
            return _from(document)
    except FileNotFoundError:
        raise ReelError(
            f"{path.parent} is not a reel (it has no {path.name}): give the folder that `longtake generate` made"
        ) from None
    except OSError as error:
        raise ReelError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ReelError(f"{path} is damaged ({error}): put back a copy of it, or begin in a new folder") from error
    raise ReelError(f"{path} was written by another longtake (schema {schema}, here {SCHEMA}): use that one to go on")


def _from(document: Mapping[str, Any]) -> Manifest:
    video = document["video"]
    return Manifest(
        settings=document["settings"],
        seed=document["seed"],
        weights=document["weights"],
        fps=Fraction(video["fps"]),
        size=(video["height"], video["width"]),
        frames=video["frames"],
        segment=video["segment"],
        encoding=Encoding(video["crf"], video["preset"]),
        threads=document["threads"],
        versions=document["versions"],
        machine=document["machine"],
        about=document["about"],
    )


def manifest_of(folder: Path | str) -> Manifest:
    """What the reel in a folder is. ReelError if there is none."""
    return load(Path(folder) / "run.json")


# ---------------------------------------------------------------- compared
@dataclass(frozen=True)
class Difference:
    """A setting that is not what it was."""

    name: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: was {_short(self.was)}, now {_short(self.now)}"


def differences(was: Manifest, now: Manifest) -> list[Difference]:
    """Everything that matters and is not the same. Threads are no difference: they are set back on resume."""
    old, new = _flat(was), _flat(now)
    return [Difference(name, old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)]


def agreed(was: Manifest, now: Manifest, allow: Iterable[str], folder: Path) -> tuple[Manifest, list[Difference]]:
    """The manifest to go on with, and the differences that `allow` lets pass; ReelError lists those that it does not."""
    found, names = differences(was, now), set(allow)
    refused = [d for d in found if d.name in FIXED or not names & {d.name, "all"}]
    if refused:
        can = [d.name for d in refused if d.name not in FIXED]
        hint = f" (or let it pass: {' '.join(f'--allow {name}' for name in can)})" if len(can) == len(refused) else ""
        raise ReelError(
            f"{folder} was begun with other settings, and going on would not make the same video:\n"
            + "\n".join(f"  {difference}" for difference in refused)
            + f"\ngo on with what it was begun with{hint}, or begin a new reel in another folder"
        )
    return replace(now, threads=was.threads), found


def _flat(manifest: Manifest) -> dict[str, Any]:
    height, width = manifest.size
    return {
        **manifest.settings,
        "seed": manifest.seed,
        "weights": manifest.weights,
        "fps": str(manifest.fps),
        "width": width,
        "height": height,
        "frames": manifest.frames,
        "segment": manifest.segment,
        "crf": manifest.encoding.crf,
        "preset": manifest.encoding.preset,
        **manifest.versions,
        **manifest.machine,
    }


def _short(value: Any, most: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"
