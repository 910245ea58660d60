"""The curves of a run as a picture, and its progress in words."""

import json

import pytest
from PIL import Image

from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.run.curves import drawn, read_curves
from tests.train.toys import Line


def test_a_run_draws_its_losses(tmp_path):
    class Validated(Line):
        def evaluate(self, step, out):
            return {"val_loss": 2.0 - step / 10, "psnr": 20.0}

    lines = []
    train(Validated(), LoopConfig.of(steps=10, log_every=2, eval_every=5, save_every=0), tmp_path, lines.append)
    curves = read_curves(tmp_path / "log.jsonl")
    assert set(curves) == {"loss", "val_loss"} and curves["val_loss"] == [(5, 1.5), (10, 1.0)]
    assert [step for step, _ in curves["loss"]] == [2, 4, 6, 8, 10]
    picture = Image.open(tmp_path / "curves.png")
    assert picture.size == (960, 480) and len(picture.getcolors(10**5)) > 3
    progress = next(line for line in lines if line.startswith("step 2/10"))
    assert progress.endswith(" left") and " steps/s  " in progress and " MiB  " in progress
    assert any(line.startswith("step 10/10") and line.endswith(" in all") for line in lines)


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e-6, 1e6], [-1.0, 3.0], [5.0, 5.0, 5.0]])
def test_any_curve_can_be_drawn(values):
    assert drawn({"loss": list(enumerate(values))}).size == (960, 480)


def test_a_loss_that_is_not_finite_is_left_out(tmp_path):
    lines = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.0}, {"step": 3, "skipped": "batch 1"}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_curves(tmp_path / "log.jsonl") == {"loss": [(2, 1.0)]}
