"""Step caching is measured against the exact run, and a rule can be fitted to any network."""

import math

import pytest
import torch

from longtake.eval.caching import decibels, fitted, main
from longtake.models.cache import Rule
from tests.checkpoints import random_wan


def test_a_fit_finds_the_polynomial():
    told = torch.linspace(0.001, 0.08, 40, dtype=torch.float64)
    wanted = Rule((3.0e3, -2.0e2, 5.0, 0.01))
    rule = fitted(list(zip(told.tolist(), wanted.expected(told).tolist())), steps=30)
    assert torch.allclose(rule.expected(told), wanted.expected(told), rtol=1e-6)
    assert (rule.first, rule.last) == (3, 1)


def test_decibels():
    frames = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert decibels(frames, frames) == math.inf
    assert decibels(frames, frames + 1) == pytest.approx(20 * math.log10(255))


def test_more_is_skipped_and_more_is_lost(tmp_path, capsys):
    folder, rule = random_wan(tmp_path / "m"), tmp_path / "rule.json"
    asked = [str(folder), "--prompt", "a red ball", "--seconds", "1.2", "--steps", "10"]
    main([*asked, "--thresholds", "0,0.3,1000", "-o", str(rule)])
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "dB" in line and "│" in line]
    found = [[cell.strip() for cell in line[1:-1]] for line in lines]
    made, error = [int(row[1][:-1]) for row in found], [float(row[3].split()[0]) for row in found]
    assert made[0] == 100 and error[0] == math.inf
    assert made[0] >= made[1] >= made[2] == 20  # the first and the last of ten steps
    assert error[0] > error[2] > 5
    first = rule.read_text()
    main([*asked, "--thresholds", "1000", "--rule", str(rule), "-o", str(rule)])
    assert rule.read_text() == first


def test_what_cannot_be_measured_is_refused(capsys):
    for words, message in ((["clock"], "no step caching"), (["nowhere"], "no model is called")):
        with pytest.raises(SystemExit) as refused:
            main(words)
        assert refused.value.code == 2 and message in capsys.readouterr().err.replace("\n", " ")
