"""LoadOptions refuse unknown values, and store only what differs from a plain model on the CPU."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from longtake.models import ModelError, load
from longtake.models.runtime.load_options import LoadOptions, LoadOptionsError


def test_facts_hold_what_differs_from_a_model_on_the_cpu():
    assert LoadOptions("cpu").facts() == {} and LoadOptions("cpu").torch_dtype is None
    streamed = LoadOptions("cpu", "bf16", "blocks", True)
    assert streamed.facts() == {"offload": "blocks", "fp8": True, "dtype": "bf16"}
    assert streamed.torch_dtype == torch.bfloat16
    fast = LoadOptions(
        "cpu", attention="sdpa", compile=True, step_cache=0.2, step_cache_calibration={"coefficients": [1.0, 0.0]}
    )
    for options in (streamed, fast):
        assert LoadOptions(**{"device": "cpu", **json.loads(json.dumps(options.facts()))}) == options


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(device="gpu"), "--device must be auto, cpu, cuda or cuda:N, not 'gpu'"),
        (dict(device="cuda:99"), "use --device"),
        (dict(dtype="int3"), "--dtype must be auto, fp32, bf16, fp16, not 'int3'"),
        (dict(offload="all"), "--offload must be one of none, model, blocks, not 'all'"),
        (dict(step_cache=-1.0), "--step-cache must be 0 or more, not -1.0"),
        (dict(step_cache_calibration={}), "needs --step-cache THRESHOLD"),
    ],
)
def test_unknown_values_are_refused_with_the_accepted_ones(wrong, message):
    with pytest.raises(LoadOptionsError) as error:
        replace(LoadOptions(), **wrong).facts()
    assert message in str(error.value)


def test_a_toy_model_refuses_options_that_need_a_network():
    with pytest.raises(ModelError, match="the toy model clock has no network to use --offload with: leave it out"):
        load("clock", load_options=LoadOptions("cpu", offload="model"))
    assert load("clock", load_options=LoadOptions()).name == "clock"
