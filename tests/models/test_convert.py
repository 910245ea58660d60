"""Pickles become safetensors in a child process, and only if they hold nothing but tensors; nothing in them is run."""

import hashlib
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file

from longtake.models import load
from longtake.models.convert import _tensors, convert
from longtake.models.weights import WeightsError
from tests import released


class Bomb:
    """A pickle that writes a file when it is loaded as pickles are."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_tensors_come_out_as_they_went_in(tmp_path):
    wide = torch.randn(4, 6)
    tensors = {"a": wide, "b": wide[:, :2], "c": wide, "d": torch.randn(3).bfloat16(), "e": torch.tensor(3)}
    torch.save(tensors, tmp_path / "x.pth")
    [made] = convert(tmp_path / "x.pth")
    assert made.file == tmp_path / "x.safetensors" and made.tensors == 5
    assert made.sha256 == hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()
    found = load_file(made.file)
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pth", "x.safetensors"]


def test_old_and_wrapped_files_of_a_folder(tmp_path):
    for i, (wrapper, new) in enumerate((("state_dict", True), ("model_state", False))):
        torch.save({wrapper: {"a": torch.full((2,), i)}}, tmp_path / f"{i}.pt", _use_new_zipfile_serialization=new)
    made = convert(tmp_path, tmp_path / "deep" / "er")
    assert [load_file(one.file)["a"].tolist() for one in made] == [[0, 0], [1, 1]]
    assert [one.file.name for one in made] == ["0.safetensors", "1.safetensors"]


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path, plain):
    mark, file = tmp_path / "mark", tmp_path / "x.pth"
    if plain:
        file.write_bytes(pickle.dumps({"a": Bomb(mark)}))
    else:
        torch.save({"a": torch.ones(1), "b": Bomb(mark)}, file)
    with pytest.raises(WeightsError, match=r"x\.pth \(SHA-256 [0-9a-f]{64}\) not converted"):
        convert(file)
    assert not mark.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]
    if not plain:  # and it would have been run by an ordinary load
        torch.load(file, weights_only=False)
        assert mark.exists()


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"a": torch.ones(1), "step": 3}, r"no tensors: step \(int\)"),
        ([torch.ones(1)], "a list"),
        ({1: torch.ones(1)}, "no tensors"),
    ],
)
def test_anything_but_tensors_is_refused(held, words):
    with pytest.raises(ValueError, match=words):
        _tensors(held)


def test_what_cannot_be_converted(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match="not converted"):
        convert(tmp_path / "x.pth")
    (tmp_path / "x.safetensors").write_bytes(b"mine")
    with pytest.raises(WeightsError, match="is there already"):
        convert(tmp_path / "x.pth")
    assert (tmp_path / "x.safetensors").read_bytes() == b"mine"
    with pytest.raises(WeightsError, match="safetensors already"):
        convert(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="there is no file"):
        convert(tmp_path / "y.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="nothing to convert"):
        convert(tmp_path / "empty")


def test_a_published_folder_opens_after_conversion(tmp_path):
    made = released.parts("i2v")
    folder = released.original(tmp_path / "o", made)
    for name in ("Wan2.1_VAE", "models_t5_umt5-xxl-enc-bf16", "models_clip"):
        file = folder / f"{name}.safetensors"
        torch.save(load_file(file), folder / f"{name}.pth")
        file.unlink()
    with pytest.raises(WeightsError, match="longtake convert"):
        load(folder)
    assert len(convert(folder)) == 3
    model = load(folder)
    assert torch.equal(model.codec.quant_conv.weight, made.codec.quant_conv.weight)
    eyes = released.session(model).tell.eyes
    assert torch.equal(
        eyes.encoder["layers"][1].self_attn.v_proj.bias, made.eyes.encoder["layers"][1].self_attn.v_proj.bias
    )
