"""longtake.json: every key is one that a model reads, so that a mistyped one never leaves a default in its place."""

import json

import pytest

from longtake.models import load
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.registry import FAMILIES
from longtake.train.weights.model_card import ModelCard


@pytest.mark.parametrize(("family", "case"), [("wan", "bidirectional"), ("ltx", "0.9.5")])
def test_a_key_that_nothing_reads_is_refused_with_the_nearest_one(tmp_path, family, case):
    path = FAMILIES[family].get("cases")[case].write(tmp_path / "model")
    about = json.loads((path / "longtake.json").read_text())
    for key in ("options", "strategy_option", "guidance"):
        (path / "longtake.json").write_text(json.dumps(about | {key: 1}))
        with pytest.raises(WeightsError, match=f"has the key '{key}', which nothing reads: "):
            load(path)


def test_a_model_card_writes_no_key_that_nothing_reads():
    with pytest.raises(ValueError, match="more has 'colour', which no model reads"):
        ModelCard(more={"colour": "red"})
