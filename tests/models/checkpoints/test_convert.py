"""Pickles are converted to safetensors in a child process if they contain tensors alone; no code in them runs."""

import argparse
import hashlib
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models import load
from longtake.models.checkpoints.convert import convert, unwrap
from longtake.models.checkpoints.loading import WeightsError
from tests import released


class Bomb:
    """A pickle that writes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_converted_tensors_equal_those_of_the_pickle(tmp_path):
    wide = torch.randn(4, 6)
    tensors = {"a": wide, "b": wide[:, :2], "c": wide, "d": torch.randn(3).bfloat16(), "e": torch.tensor(3)}
    torch.save(tensors, tmp_path / "x.pth")
    [made] = convert(tmp_path / "x.pth")
    assert made.file == tmp_path / "x.safetensors" and made.tensors == 5
    assert made.sha256 == hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()
    found = load_file(made.file)
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pth", "x.safetensors"]


@pytest.mark.long
def test_a_folder_of_old_and_wrapped_files_is_converted(tmp_path):
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
    if not plain:  # an ordinary load would have run it
        torch.load(file, weights_only=False)
        assert mark.exists()


FOREIGN = {  # what a .pth file holds -> the words of the refusal
    "a class": (lambda f: torch.save({"a": torch.ones(1), "args": argparse.Namespace(x=1)}, f), "it holds argparse.Namespace besides"),
    "a network": (lambda f: torch.save(torch.nn.Linear(2, 2), f), "it holds torch.nn.modules.linear.Linear besides"),
    "half an archive": (lambda f: (torch.save({"a": torch.ones(100)}, f), f.write_bytes(f.read_bytes()[:-300])), "fetch it again"),
    "a web page": (lambda f: f.write_bytes(b"<html>"), "a web page"),
    "a GGUF": (lambda f: f.write_bytes(b"GGUF" + bytes(60)), "GGUF, which is read as it is"),
    "a pipe": (os.mkfifo, "a pipe or a device"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_not_converted_is_refused_in_our_own_words(tmp_path, kind):
    """PyTorch's own message advises to load the file with the code inside."""
    write, words = FOREIGN[kind]
    write(tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=words) as error:
        convert(tmp_path / "x.pth")
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)


def test_averaged_weights_are_preferred_and_wrappers_are_opened(tmp_path):
    nested = {"generator": {"model.a": torch.zeros(1)}, "generator_ema": {"model.a": torch.ones(1)}, "step": 3}
    torch.save(nested, tmp_path / "x.pth")
    assert load_file(convert(tmp_path / "x.pth")[0].file)["model.a"].item() == 1


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"a": torch.ones(1), "step": 3}, r"not tensors: step \(int\)"),
        ([torch.ones(1)], "a list"),
        ({1: torch.ones(1)}, "not tensors"),
    ],
)
def test_anything_but_tensors_is_refused(held, words):
    with pytest.raises(ValueError, match=words):
        unwrap(held)


def test_a_path_that_cannot_be_converted_is_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match="not converted"):
        convert(tmp_path / "x.pth")
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pth")
    save_file({"mine": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="exists already"):
        convert(tmp_path / "x.pth")
    assert "mine" in load_file(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="safetensors already"):
        convert(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="there is no file"):
        convert(tmp_path / "y.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="nothing to convert"):
        convert(tmp_path / "empty")


@pytest.mark.long
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
    assert torch.equal(model.vae.quant_conv.weight, made.vae.quant_conv.weight)
    eyes = released.session(model).conditioner.image_encoder
    assert torch.equal(
        eyes.encoder["layers"][1].self_attn.v_proj.bias, made.image_encoder.encoder["layers"][1].self_attn.v_proj.bias
    )
