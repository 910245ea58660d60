"""Where weights come from: a model, a transformer's folder or a run, taken whole, with new channels that begin at zero."""

import pytest
import torch
from safetensors.torch import save_file

from longtake.models.checkpoints import loading as weights
from longtake.models.wan.config import WanConfig, tiny
from longtake.models.wan.transformer import WanTransformer
from longtake.train.weights.init_weights import find_init_weights, network, network_of, write_shape

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
    x, extra = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 8, 3, 8, 8)
    assert torch.allclose(outputs(grown, torch.cat([x, extra], 1)), outputs(net, x), atol=1e-6)
    assert grown.training and all(weight.requires_grad for weight in grown.parameters())
    assert start.folder == folder
    count = len(net.state_dict())
    assert lines == [
        f"started from {folder}: loaded all {count} tensors; 8 of 12 input channels are new and start at zero"
    ]


def test_only_settings_that_change_no_tensor_may_differ(folder):
    lines = []
    causal, _ = network({"causal": True, "block": 2, "max_latent_frames": 8}, str(folder), lines.append)
    assert causal.config == WanConfig(**(CONFIG.__dict__ | {"causal": True, "block": 2, "max_latent_frames": 8}))
    assert lines[0].endswith("causal is True; block is 2; max_latent_frames is 8")
    for changes, words in [
        ({"num_layers": 2}, "has num_layers 1, not 2: remove num_layers"),
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
    write_shape(tmp_path, CONFIG)
    found = find_init_weights(str(tmp_path))
    assert found.config == CONFIG and found.folder is None
    assert torch.equal(found.tensors["proj_out.bias"], net.proj_out.bias + 1)


def test_a_folder_without_a_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run that trained a video network: it has no network\.json"):
        network_of(tmp_path)


def test_a_missing_start_is_named(tmp_path):
    with pytest.raises(ValueError, match="neither a built-in model"):
        network({}, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="there is no network to train"):
        network({})
