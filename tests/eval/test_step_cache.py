"""eval.step_cache fits a calibration to any network and measures caching against the exact run."""

import math

import pytest
import torch

from longtake.eval.step_cache import decibels, fitted, main
from longtake.models.runtime.calibration import Calibration
from tests.checkpoints import random_wan


def test_fitting_recovers_the_polynomial():
    changes = torch.linspace(0.001, 0.08, 40, dtype=torch.float64)
    truth = Calibration((3.0e3, -2.0e2, 5.0, 0.01))
    calibration = fitted(list(zip(changes.tolist(), truth.expected(changes).tolist())), steps=30)
    assert torch.allclose(calibration.expected(changes), truth.expected(changes), rtol=1e-6)
    assert (calibration.first, calibration.last) == (3, 1)


def test_decibels_is_the_psnr_of_uint8_frames():
    frames = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert decibels(frames, frames) == math.inf
    assert decibels(frames, frames + 1) == pytest.approx(20 * math.log10(255))


def test_a_higher_threshold_skips_more_calls_and_loses_more(tmp_path, capsys):
    folder, calibration = random_wan(tmp_path / "m"), tmp_path / "calibration.json"
    asked = [str(folder), "--prompt", "a red ball", "--seconds", "1.2", "--steps", "10"]
    main([*asked, "--thresholds", "0,0.3,1000", "-o", str(calibration)])
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "dB" in line and "│" in line]
    found = [[cell.strip() for cell in line[1:-1]] for line in lines]
    made, error = [int(row[1][:-1]) for row in found], [float(row[3].split()[0]) for row in found]
    assert made[0] == 100 and error[0] == math.inf
    assert made[0] >= made[1] >= made[2] == 20  # the first and the last of ten steps
    assert error[0] > error[2] > 5
    first = calibration.read_text()
    main([*asked, "--thresholds", "1000", "--calibration", str(calibration), "-o", str(calibration)])
    assert calibration.read_text() == first


def test_a_model_without_step_caching_is_refused(capsys):
    for words, message in ((["clock"], "no step caching"), (["nowhere"], "no model is called")):
        with pytest.raises(SystemExit) as refused:
            main(words)
        assert refused.value.code == 2 and message in capsys.readouterr().err.replace("\n", " ")
