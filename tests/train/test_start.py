"""Where weights come from: a model, a transformer's folder or a run, taken whole, with new channels that begin at zero."""

import json

import pytest
import torch
from safetensors.torch import save_file

from longtake.models import weights
from longtake.models.wan import WanConfig, WanTransformer, tiny
from longtake.train.start import keep_shape, network, network_of, origin

CONFIG = tiny(num_layers=1)
LEVEL = torch.tensor([[0.0, 0.3, 1.0]])


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return WanTransformer(CONFIG)


@pytest.fixture
def folder(net, tmp_path):
    weights.save(net, CONFIG, tmp_path / "transformer", kind="SkyReelsV2Transformer3DModel")
    return tmp_path


def outputs(net, x, **more):
    with torch.no_grad():
        return net(x, LEVEL, torch.ones(1, 5, 10), **more)


def test_new_channels_change_nothing_at_first(net, folder):
    lines = []
    grown, start = network({"in_channels": 12}, str(folder), lines.append)
    x, beside = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 8, 3, 8, 8)
    assert torch.allclose(outputs(grown, torch.cat([x, beside], 1)), outputs(net, x), atol=1e-6)
    assert grown.training and all(weight.requires_grad for weight in grown.parameters())
    assert start.folder == folder
    count = len(net.state_dict())
    assert lines == [
        f"started from {folder}: all {count} tensors are taken; 8 of 12 input channels are new and begin at zero"
    ]


def test_what_changes_no_tensor_may_differ_and_nothing_else(folder):
    lines = []
    causal, _ = network({"causal": True, "block": 2, "view": 8}, str(folder), lines.append)
    assert causal.config == WanConfig(**(CONFIG.__dict__ | {"causal": True, "block": 2, "view": 8}))
    assert lines[0].endswith("causal is True; block is 2; view is 8")
    for changes, words in [
        ({"num_layers": 2}, "has num_layers 1, not 2: leave num_layers out"),
        ({"in_channels": 3}, "in_channels may only grow"),
        ({"nmu_layers": 2}, "no key 'nmu_layers': did you mean num_layers"),
    ]:
        with pytest.raises(ValueError, match=words):
            network(changes, str(folder), lines.append)


def test_a_run_gives_its_averaged_weights(net, tmp_path):
    for number, part in enumerate(("model", "ema")):
        (tmp_path / "step-000010").mkdir(exist_ok=True)
        tensors = {name: tensor + number for name, tensor in net.state_dict().items()}
        save_file(tensors, tmp_path / "step-000010" / f"{part}.safetensors")
    keep_shape(tmp_path, CONFIG)
    found = origin(str(tmp_path))
    assert found.config == CONFIG and found.folder is None
    assert torch.equal(found.tensors["proj_out.bias"], net.proj_out.bias + 1)


def test_a_run_of_before_tells_its_network_in_its_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"loop": {}, "forcing": {"network": {"num_layers": 3}}}))
    assert network_of(tmp_path).num_layers == 3


def test_nothing_to_start_from_is_said(tmp_path):
    with pytest.raises(ValueError, match="neither a built-in model"):
        network({}, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="say what network"):
        network({})
