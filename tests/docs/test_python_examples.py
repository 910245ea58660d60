"""The Python scripts of examples/python and the code of the Python guide run as they are written."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import longtake

ROOT = Path(longtake.__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples" / "python").glob("*.py"))
EXPECTED = {
    "asyncio_program": r"24 frames, and \d+ ticks",
    "batch": r"video 3: seed 13, <25 frames of 64x64",
    "callbacks": r"window 1, step 0.*\nstopped after .* with \d+ frames",
    "durable_run": r"equal bytes: True, checks passed: True",
    "first_video": r"72 frames at 24 fps",
    "lora": r"changes a pixel by \d+\.\d of 255",
    "timeline": r"4\.00 s  a yellow star over the desert",
}


@pytest.fixture
def lora(tmp_path) -> Path:
    """A LoRA of rank 2 for the queries of the built-in model."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for number in range(8):
        name = f"transformer.blocks.{number}.attn1.to_q"
        tensors[f"{name}.lora_A.weight"] = torch.randn(2, 192, generator=generator) / 8
        tensors[f"{name}.lora_B.weight"] = torch.randn(192, 2, generator=generator) / 8
    save_file(tensors, tmp_path / "style.safetensors")
    return tmp_path / "style.safetensors"


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_an_example_prints_what_it_promises(script, tmp_path, lora, monkeypatch, capsys):
    given = {"lora": [str(lora), str(tmp_path / "x.mp4")], "first_video": [str(tmp_path / "x.mp4")]}
    monkeypatch.setattr(sys, "argv", [str(script), *given.get(script.stem, [str(tmp_path / "out")])])
    runpy.run_path(str(script), run_name="__main__")
    assert re.search(EXPECTED[script.stem], capsys.readouterr().out)


@pytest.mark.long
def test_the_code_of_the_python_guide_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "guides" / "python.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert code.count("longtake.") >= 4
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    exec(compile(code, "guides/python.md", "exec"), {})
    assert (tmp_path / "out" / "ball.mp4").exists() and (tmp_path / "out" / "preview.png").exists()


@pytest.mark.long
def test_the_code_of_the_server_guide_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "guides" / "server.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "guides/server.md", "exec"), {})
    assert capsys.readouterr().out.count(" completed ") == 2
    assert len(list((tmp_path / "out").glob("video_*/video.mp4"))) == 2
