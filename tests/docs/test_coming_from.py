"""Both columns of the table for users of diffusers run, line by line, with the same checkpoint and results of one shape."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import longtake
from tests.tiny_diffusers import save_wan

PAGE = Path(longtake.__file__).parents[2] / "docs" / "coming-from" / "diffusers.md"
ROW = re.compile(r"^\| `(?P<left>[^`]+)` \| (?:`(?P<right>[^`]+)` )?\|$", re.M)
FEW = dict(num_frames=9, num_inference_steps=2, height=32, width=32)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_both_columns_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = save_wan(tmp_path / "wan")
    queries = {"lora_A": torch.ones(2, 24) / 8, "lora_B": torch.ones(24, 2)}
    names = {f"transformer.blocks.0.attn1.to_q.{side}.weight": tensor for side, tensor in queries.items()}
    table = PAGE.read_text(encoding="utf-8").partition("| in diffusers you write | here you write |")[2]
    rows = [(row["left"], row["right"]) for row in ROW.finditer(table)]
    assert len(rows) == table.partition("\n\n")[0].count("\n|") - 1 > 15
    spaces = [{"torch": torch, "FOLDER": str(folder), "few": FEW} for _ in range(2)]
    for side in range(2):
        (tmp_path / str(side)).mkdir()
        save_file(names, tmp_path / str(side) / "style.safetensors")
    for row in rows:
        for side, line in enumerate(row):
            monkeypatch.chdir(tmp_path / str(side))
            exec(line or "", spaces[side])
        theirs, ours = spaces
        for name in {"frames", "latents"} & theirs.keys() & ours.keys():
            assert np.shape(theirs[name]) == np.shape(ours[name]), row
    assert theirs["image"].size == ours["image"].size
    assert (tmp_path / "0" / "copy" / "transformer").is_dir() and (tmp_path / "1" / "copy" / "transformer").is_dir()
