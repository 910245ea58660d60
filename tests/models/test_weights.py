"""Weights are read strictly: all of them, under the right names, or an error that says what is wrong."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models import wan, wan_codec, weights
from longtake.models.weights import WeightsError
from tests.models.oracles import apart, oracle, rand, shuffled


@pytest.fixture
def net() -> wan.WanTransformer:
    return shuffled(wan.WanTransformer(wan.tiny(causal=True, block=2, view=7, inject_sample_info=True)))


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


# ---------------------------------------------------------------- there and back
def test_a_saved_network_is_read_again(net, folder):
    again = wan.load(folder)
    assert again.config == net.config
    assert equal(net, again)
    assert not again.training


def test_dtypes(net, tmp_path):
    weights.save(net, net.config, tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in wan.load(tmp_path).parameters()} == {torch.bfloat16}
    wide = wan.load(tmp_path, dtype=torch.float32)
    assert torch.equal(wide.proj_out.weight, net.proj_out.weight.bfloat16().float())


def test_a_codec_is_read_again(tmp_path):
    codec = shuffled(wan_codec.WanCodec(wan_codec.tiny()))
    weights.save(codec, codec.config, tmp_path, kind="AutoencoderKLWan")
    again = wan_codec.load(tmp_path)
    assert equal(codec, again)
    z = rand(1, 3, 2, 2, 2)
    assert apart(codec.decode(z), again.decode(z)) < 1e-5  # weights that want gradients go through other kernels


def test_the_reference_reads_what_we_write(tmp_path):
    codec = shuffled(wan_codec.WanCodec(wan_codec.tiny()))
    weights.save(codec, codec.config, tmp_path, kind="AutoencoderKLWan")
    reference, report = oracle("diffusers", "AutoencoderKLWan").from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(reference.quant_conv.weight, codec.quant_conv.weight)


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


def test_nothing_is_held_twice(folder):
    """Parameters are the tensors that were read, not copies of them."""
    tensors = weights.read(folder)
    net = weights.assign(wan.WanTransformer, weights.configure(wan.WanConfig, folder), tensors)
    assert all(tensors[name].data_ptr() == p.data_ptr() for name, p in net.named_parameters())


# ---------------------------------------------------------------- strictness
def test_missing_left_over_and_misshapen_tensors_are_named(folder):
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


def test_many_faults_are_counted_and_some_named(folder):
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
    (folder / "diffusion_pytorch_model.safetensors").rename(pickled)
    for path in (folder, pickled):
        with pytest.raises(WeightsError, match="convert"):
            weights.read(path)


def test_places_without_weights(folder, tmp_path):
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
def test_settings_that_would_be_ignored_are_refused(folder, change, words):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(WeightsError, match=words):
        wan.load(folder)


def test_settings_that_say_nothing_are_passed_over(net, folder):
    file = folder / "config.json"
    silent = dict(_diffusers_version="0", pos_embed_seq_len=None, num_frame_per_block=1, window_size=[-1, -1])
    file.write_text(json.dumps(json.loads(file.read_text()) | silent))
    assert wan.load(folder).config == net.config


@pytest.mark.parametrize("text, words", [("{", "is not JSON"), (None, "is missing")])
def test_broken_configs(folder, text, words):
    file = folder / "config.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(WeightsError, match=words):
        wan.load(folder)


# ---------------------------------------------------------------- names
def original_wan_name(name: str) -> str:
    """What Wan and SkyReels-V2 call a tensor, written the other way round from the reference's rules."""
    for new, old in (
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
        ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
        ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
        ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
        ("norm_added_k", "norm_k_img"), ("add_k_proj", "k_img"), ("add_v_proj", "v_img"),
        ("to_out.0", "o"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
        ("attn1", "self_attn"), ("attn2", "cross_attn"), ("norm2", "norm3"),
        ("ffn.net.0.proj", "ffn.0"), ("ffn.net.2", "ffn.2"), ("proj_out", "head.head"),
    ):  # fmt: skip
        name = name.replace(new, old)
    if name == "scale_shift_table":
        return "head.modulation"
    return name.replace("scale_shift_table", "modulation")


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_original_wan_names_map_as_in_the_reference(prefix):
    with torch.device("meta"):
        net = wan.WanTransformer(wan.tiny(image_dim=14, added_kv_proj_dim=24))
    names = list(net.state_dict())
    original = [prefix + original_wan_name(name) for name in names]
    assert [weights.rename(name, wan.NAMES) for name in original] == names
    convert = oracle("diffusers.loaders.single_file_utils", "convert_wan_transformer_to_diffusers")
    assert set(convert({name: torch.zeros(1) for name in original})) == set(names)
    assert [weights.rename(name, wan.NAMES) for name in names] == names


def test_original_skyreels_names_of_the_frame_rate():
    """The reference's own table forgets these."""
    for old, new in (("0", "net.0.proj"), ("2", "net.2")):
        assert weights.rename(f"fps_projection.{old}.bias", wan.NAMES) == f"fps_projection.{new}.bias"
    assert weights.rename("fps_embedding.weight", wan.NAMES) == "fps_embedding.weight"
    assert weights.rename("blocks.3.attn2.norm_added_q.weight", wan.NAMES) is None


def original_codec_name(name: str) -> str:
    """What Wan calls a tensor of its codec."""
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


def test_original_codec_names_map_as_in_the_reference():
    with torch.device("meta"):
        codec = wan_codec.WanCodec(wan_codec.WanCodecConfig(base_dim=4))
    names = list(codec.state_dict())
    original = [original_codec_name(name) for name in names]
    assert [weights.rename(name, wan_codec.NAMES) for name in original] == names
    convert = oracle("diffusers.loaders.single_file_utils", "convert_wan_vae_to_diffusers")
    assert set(convert({name: torch.zeros(1) for name in original})) == set(names)
    assert [weights.rename(name, wan_codec.NAMES) for name in names] == names


# ---------------------------------------------------------------- digest
def test_digest_is_of_the_content(tmp_path):
    one, two, three = (tmp_path / name for name in "abc")
    one.write_bytes(b"hello")
    two.write_bytes(b"hello")
    three.write_bytes(b"hallo")
    assert weights.digest([one]) == weights.digest([two]) != weights.digest([three])
    assert weights.digest([one, three]) != weights.digest([three, one])
    assert len(weights.digest([one])) == 64
