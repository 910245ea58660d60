"""Weights are read strictly: all of them under the right names, or an error names the tensor."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.wan import config as wan_config
from longtake.models.wan import transformer as wan
from longtake.models.wan import vae as wan_vae
from longtake.models.wan import vae_config as wan_vae_config
from tests import released
from tests.oracles import apart, oracle, rand, shuffled


@pytest.fixture
def net() -> wan.WanTransformer:
    return shuffled(
        wan.WanTransformer(wan_config.tiny(causal=True, block=2, max_latent_frames=7, inject_sample_info=True))
    )


@pytest.fixture
def folder(net, tmp_path):
    weights.save(net, net.config, tmp_path, kind="SkyReelsV2Transformer3DModel")
    return tmp_path


def rewrite(folder, change) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file(change(load_file(file)), file)


def equal(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---------------------------------------------------------------- saving and loading
def test_a_saved_network_is_read_with_equal_weights(net, folder):
    again = wan.load(folder)
    assert again.config == net.config
    assert equal(net, again)
    assert not again.training


def test_weights_keep_their_dtype_unless_another_is_asked_for(net, tmp_path):
    weights.save(net, net.config, tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in wan.load(tmp_path).parameters()} == {torch.bfloat16}
    wide = wan.load(tmp_path, dtype=torch.float32)
    assert torch.equal(wide.proj_out.weight, net.proj_out.weight.bfloat16().float())


def test_a_saved_vae_decodes_the_same(tmp_path):
    vae = shuffled(wan_vae.WanVAE(wan_vae_config.tiny()))
    weights.save(vae, vae.config, tmp_path, kind="AutoencoderKLWan")
    again = wan_vae.load(tmp_path)
    assert equal(vae, again)
    z = rand(1, 3, 2, 2, 2)
    assert apart(vae.decode(z), again.decode(z)) < 1e-5  # weights with gradients use other kernels


def test_diffusers_reads_what_longtake_writes(tmp_path):
    vae = shuffled(wan_vae.WanVAE(wan_vae_config.tiny()))
    weights.save(vae, vae.config, tmp_path, kind="AutoencoderKLWan")
    reference, report = oracle("diffusers", "AutoencoderKLWan").from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(reference.quant_conv.weight, vae.quant_conv.weight)


def test_shards_are_joined(net, folder):
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    names = sorted(tensors)
    parts = {"a-00001-of-00002.safetensors": names[::2], "a-00002-of-00002.safetensors": names[1::2]}
    for file, some in parts.items():
        save_file({name: tensors[name] for name in some}, folder / file)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    (folder / "a.safetensors.index.json").write_text(json.dumps(index))
    assert equal(net, wan.load(folder))
    (folder / "a-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks a-00002-of-00002.safetensors"):
        wan.load(folder)


def test_parameters_are_the_tensors_that_were_read(folder):
    """They are not copies, so nothing is in memory twice."""
    tensors = weights.read(folder)
    net = weights.assign(wan.WanTransformer, weights.configure(wan_config.WanConfig, folder), tensors)
    assert all(tensors[name].data_ptr() == p.data_ptr() for name, p in net.named_parameters())


# ---------------------------------------------------------------- strictness
def test_missing_unexpected_and_misshapen_tensors_are_named(folder):
    def spoil(tensors):
        tensors["blocks.0.attn1.to_k.bias"] = torch.zeros(5)
        tensors["surprise"] = torch.zeros(1)
        del tensors["proj_out.weight"]
        return tensors

    rewrite(folder, spoil)
    with pytest.raises(WeightsError) as error:
        wan.load(folder)
    assert "1 missing: proj_out.weight" in str(error.value)
    assert "1 left over: surprise" in str(error.value)
    assert "blocks.0.attn1.to_k.bias is (5,), not (24,)" in str(error.value)
    assert "WanTransformer" in str(error.value)


def test_many_faults_are_counted_and_the_first_ones_named(folder):
    rewrite(folder, lambda tensors: {"x": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"missing: (\S+, ){7}\S+ and \d+ more; 1 left over: x"):
        wan.load(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_a_truncated_file_is_refused(folder, keep):
    file = folder / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model.safetensors is damaged or cut short"):
        wan.load(folder)


def test_a_corrupt_header_is_refused(folder):
    file = folder / "diffusion_pytorch_model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[8:40] = b"\xff" * 32
    file.write_bytes(whole)
    with pytest.raises(WeightsError, match="damaged"):
        wan.load(folder)


def test_pickles_are_never_opened(folder):
    pickled = folder / "diffusion_pytorch_model.bin"
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(tensors, pickled)
    for path in (folder, pickled):
        with pytest.raises(WeightsError, match="convert"):
            weights.read(path)


def test_a_path_without_weights_is_refused(folder, tmp_path):
    with pytest.raises(WeightsError, match="no weights at"):
        weights.read(tmp_path / "nowhere")
    (folder / "other.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="name the one to read"):
        weights.read(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no safetensors"):
        weights.read(tmp_path / "empty")


def test_two_tensors_of_one_name_are_refused(tmp_path):
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, file)
    assert set(weights.read(file, [("b", "a")])) == {"a"}
    save_file({"a": torch.zeros(1), "b": torch.ones(1)}, file)
    with pytest.raises(WeightsError, match="a second a"):
        weights.read(file, [("b", "a")])


# ---------------------------------------------------------------- config
@pytest.mark.parametrize(
    "change, words",
    [
        (dict(sparkle=3), "sparkle = 3"),
        (dict(num_frame_per_block=5), "num_frame_per_block = 5"),
        (dict(qk_norm="none"), "rms_norm_across_heads"),
    ],
)
def test_unknown_config_keys_are_refused(folder, change, words):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(WeightsError, match=words):
        wan.load(folder)


def test_config_keys_without_effect_are_ignored(net, folder):
    file = folder / "config.json"
    silent = dict(_diffusers_version="0", pos_embed_seq_len=None, num_frame_per_block=1, window_size=[-1, -1])
    file.write_text(json.dumps(json.loads(file.read_text()) | silent))
    assert wan.load(folder).config == net.config


@pytest.mark.parametrize("text, words", [("{", "is not JSON"), (None, "is missing")])
def test_a_broken_config_is_refused(folder, text, words):
    file = folder / "config.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(WeightsError, match=words):
        wan.load(folder)


# ---------------------------------------------------------------- names
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_wan_names_map_as_in_the_reference(prefix):
    with torch.device("meta"):
        net = wan.WanTransformer(wan_config.tiny(image_dim=14, added_kv_proj_dim=24))
    names = list(net.state_dict())
    original = [prefix + released.wan_name(name) for name in names]
    assert [weights.rename(name, wan_config.NAMES) for name in original] == names
    convert = oracle("diffusers.loaders.single_file_utils", "convert_wan_transformer_to_diffusers")
    assert set(convert({name: torch.zeros(1) for name in original})) == set(names)
    assert [weights.rename(name, wan_config.NAMES) for name in names] == names


def test_original_skyreels_names_of_the_frame_rate_are_mapped():
    """The table of the reference lacks them."""
    for old, new in (("0", "net.0.proj"), ("2", "net.2")):
        assert weights.rename(f"fps_projection.{old}.bias", wan_config.NAMES) == f"fps_projection.{new}.bias"
    assert weights.rename("fps_embedding.weight", wan_config.NAMES) == "fps_embedding.weight"
    assert weights.rename("blocks.3.attn2.norm_added_q.weight", wan_config.NAMES) is None


def original_vae_name(name: str) -> str:
    """Return the original Wan name of a tensor of the VAE."""
    match = re.match(r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.*)", name)
    if match:
        place = 4 * int(match[1]) + (3 if match[2] == "upsamplers" else int(match[3]))
        name = f"decoder.upsamples.{place}.{match[4]}"
    for new, old in (
        ("post_quant_conv", "conv2"), ("quant_conv", "conv1"), ("coder.conv_in", "coder.conv1"),
        ("norm_out", "head.0"), ("conv_out", "head.2"), ("down_blocks", "downsamples"),
        ("mid_block.resnets.0", "middle.0"), ("mid_block.attentions.0", "middle.1"), ("mid_block.resnets.1", "middle.2"),
        ("conv_shortcut", "shortcut"), ("norm1", "residual.0"), ("norm2", "residual.3"),
    ):  # fmt: skip
        name = name.replace(new, old)
    return re.sub(r"(s\.\d+|middle\.\d)\.conv(\d)", lambda m: f"{m[1]}.residual.{2 if m[2] == '1' else 6}", name)


def test_original_vae_names_map_as_in_the_reference():
    with torch.device("meta"):
        vae = wan_vae.WanVAE(wan_vae_config.WanVAEConfig(base_dim=4))
    names = list(vae.state_dict())
    original = [original_vae_name(name) for name in names]
    assert [weights.rename(name, wan_vae_config.NAMES) for name in original] == names
    convert = oracle("diffusers.loaders.single_file_utils", "convert_wan_vae_to_diffusers")
    assert set(convert({name: torch.zeros(1) for name in original})) == set(names)
    assert [weights.rename(name, wan_vae_config.NAMES) for name in names] == names


# ---------------------------------------------------------------- digest
def test_the_digest_depends_on_the_content_alone(tmp_path):
    one, two, three = (tmp_path / name for name in "abc")
    one.write_bytes(b"hello")
    two.write_bytes(b"hello")
    three.write_bytes(b"hallo")
    assert weights.digest([one]) == weights.digest([two]) != weights.digest([three])
    assert weights.digest([one, three]) != weights.digest([three, one])
    assert len(weights.digest([one])) == 64


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_a_tensor_with_nan_or_infinity_is_named_with_its_file(tmp_path, value, dtype):
    tensors = {"good": torch.ones(3), "blocks.1.weight": torch.tensor([[1.0, value], [0.0, 2.0]]).to(dtype)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.safetensors: the tensor blocks\.1\.weight holds NaN or infinity"):
        weights.read(tmp_path)


def test_weights_that_float16_cannot_hold_are_named():
    tensors = {"weight": torch.tensor([[70000.0, 1.0]]), "bias": torch.zeros(1)}
    make = lambda config: torch.nn.Linear(2, 1)
    assert weights.assign(make, None, tensors, torch.bfloat16).weight.dtype == torch.bfloat16
    with pytest.raises(WeightsError, match=r"weight of Linear has numbers beyond 65504.*--dtype bf16"):
        weights.assign(make, None, tensors, torch.float16)
