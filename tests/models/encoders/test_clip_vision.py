"""The image encoder equals transformers', whatever layout its weights come in."""

import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from longtake.models.checkpoints.loading import WeightsError
from longtake.models.encoders import clip_vision as clip
from longtake.models.encoders.clip_vision import ClipConfig, ClipVision
from tests.oracles import apart, oracle, rand, shuffled
from tests.released import image_encoder_tensors

CONFIG = ClipConfig(
    hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7
)


@pytest.fixture(scope="module")
def net() -> ClipVision:
    return shuffled(ClipVision(CONFIG))


def reference(net: ClipVision) -> torch.nn.Module:
    config, model = (oracle("transformers", name) for name in ("CLIPVisionConfig", "CLIPVisionModel"))
    other = model(config(**asdict(net.config), attn_implementation="eager"))
    other.load_state_dict(net.state_dict(), strict=True)
    return other.eval()


def test_equals_the_reference(net):
    image = rand(2, 3, 28, 28)
    want = reference(net)(pixel_values=image, output_hidden_states=True).hidden_states[-2].detach()
    assert apart(want, net(image)) < 1e-5
    assert net(image).shape == (2, 17, 24)
    with torch.device("meta"):
        assert ClipVision(ClipConfig()).encode_image(torch.empty(1, 3, 544, 960)).shape == (1, 257, 1280)


def test_the_picture_is_squeezed_and_scaled(net):
    """A picture of one colour is that colour, normalised; the left half of a wide one stays left."""
    flat = torch.full((1, 3, 10, 30), 0.5)
    small = net.prepared(flat)
    assert small.shape == (1, 3, 28, 28)
    assert torch.allclose(small[0, :, 3, 3], (torch.tensor(0.75) - torch.tensor(clip.MEAN)) / torch.tensor(clip.STD))
    flat[..., :15] = -1
    halves = net.prepared(flat)[0, 0].mean(0)
    assert halves[:13].max() < halves[15:].min()
    assert torch.equal(net.encode_image(flat), net(net.prepared(flat)))


@pytest.mark.parametrize("layout", ["transformers", "older", "original"])
def test_every_layout_is_read(net, tmp_path, layout):
    tensors = net.state_dict()
    if layout == "older":
        tensors = {f"vision_model.{name}": tensor for name, tensor in tensors.items()}
        tensors |= {
            "visual_projection.weight": torch.zeros(2, 24),
            "vision_model.embeddings.position_ids": torch.zeros(1),
        }
    save_file(image_encoder_tensors(net) if layout == "original" else tensors, tmp_path / "model.safetensors")
    again = clip.load(tmp_path, CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_a_strange_tensor_is_refused(net, tmp_path):
    save_file(image_encoder_tensors(net) | {"visual.extra": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"left over: visual\.extra"):
        clip.load(tmp_path, CONFIG)


def test_configs(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": asdict(CONFIG), "projection_dim": 3}))
    assert ClipConfig.read(tmp_path) == CONFIG
    (tmp_path / "config.json").write_text(json.dumps(asdict(CONFIG) | {"hidden_act": "quick_gelu"}))
    with pytest.raises(WeightsError, match="quick_gelu"):
        ClipConfig.read(tmp_path)
