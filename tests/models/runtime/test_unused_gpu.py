"""An NVIDIA GPU that PyTorch cannot use is found by its driver, and named with the line that mends it."""

import os
import stat
from pathlib import Path

import pytest

import longtake
from longtake.cli import run
from longtake.core.process.notices import InputWarning
from longtake.models.runtime import unused_gpu as module
from longtake.models.runtime.load_options import LoadOptionsError, resolve_device
from longtake.models.runtime.unused_gpu import CUDA_BUILD, apple_gpu, nvidia_gpus, unused_gpu

ROOT = Path(longtake.__file__).parents[2]
INFORMATION = "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 140\nGPU UUID: \t GPU-1\n"


def driver(folder: Path, text: str = INFORMATION) -> Path:
    """Write what the driver writes to /proc/driver/nvidia/gpus."""
    for number in ("0000:01:00.0", "0000:02:00.0"):
        (folder / number).mkdir(parents=True)
        (folder / number / "information").write_text(text)
    return folder


def program(folder: Path, script: str) -> None:
    """Write a program of the name nvidia-smi."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_driver_names_its_gpus(tmp_path):
    assert nvidia_gpus(driver(tmp_path / "gpus")) == ("NVIDIA GeForce RTX 4090",) * 2
    assert nvidia_gpus(driver(tmp_path / "odd", "no model")) == ("of an unknown model",) * 2


@pytest.mark.skipif(os.name == "nt", reason="the program is a script of a POSIX shell")
@pytest.mark.parametrize(
    "script, names",
    [
        ("echo NVIDIA H200; echo NVIDIA A100", ("NVIDIA H200", "NVIDIA A100")),
        ("echo NVIDIA-SMI has failed because it could not communicate; exit 9", ()),
        ("exit 0", ()),
    ],
)
def test_nvidia_smi_names_its_gpus(tmp_path, monkeypatch, script, names):
    program(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_gpus(tmp_path / "none", libraries=["no-such-library.so"]) == names


def test_a_machine_without_a_driver_has_no_gpu(tmp_path):
    assert nvidia_gpus(tmp_path, ["no-such-library.so", "libc.so.6"], "no-such-program") == ()


@pytest.fixture
def card(monkeypatch):
    """A machine with an NVIDIA GPU that PyTorch does not see."""
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module.torch.version, "cuda", None)
    monkeypatch.setattr(module, "nvidia_gpus", lambda: ("NVIDIA RTX 4090",))


def test_the_sentence_names_the_gpu_and_the_line(card, monkeypatch):
    cpu = unused_gpu()
    assert unused_gpu(gpus=()) == "" and unused_gpu(environment={"CUDA_VISIBLE_DEVICES": ""}) == ""
    monkeypatch.setattr(module.torch.version, "cuda", "13.0")
    old = unused_gpu()
    assert (
        "NVIDIA RTX 4090" in cpu and f"`{CUDA_BUILD}`" in cpu and CUDA_BUILD not in old and "update the driver" in old
    )


def test_loading_a_model_says_it(card):
    with pytest.warns(InputWarning, match="RTX 4090"):
        longtake.load("pocket")
    with pytest.raises(LoadOptionsError, match="RTX 4090"):
        resolve_device("cuda")


def test_doctor_and_generate_say_it(card, capsys, tmp_path):
    run(["doctor"])
    assert CUDA_BUILD in " ".join(capsys.readouterr().out.split())
    assert run(["generate", "a red ball", "--seconds", "1", "--dry-run", "-o", str(tmp_path / "x")]) == 0
    out, err = capsys.readouterr()
    assert CUDA_BUILD in " ".join((out + err).split())


def test_the_documented_line_is_the_one_that_is_named():
    index = CUDA_BUILD.split()[-1]
    assert f"--index-url {index}`" in (ROOT / "docs" / "get-started.md").read_text(encoding="utf-8")


def test_the_gpu_of_a_mac_is_said_to_be_unused():
    assert "MPS" in apple_gpu(True) and apple_gpu(False) == ""
    with pytest.raises(LoadOptionsError, match="Mac is not supported"):
        resolve_device("mps")
