"""Official single files of LTX-Video: their metadata, their names, and that each is the same model as its folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models.checkpoints.loading import WeightsError, rename
from longtake.models.ltx.checkpoint import open_folder
from longtake.models.ltx.config import LTXConfig
from longtake.models.ltx.layout import single_file as ltx_original
from longtake.models.ltx.layout.files import find
from longtake.models.ltx.text_encoder import WORDS
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.ltx.vae import LTXVAE
from longtake.models.ltx.vae_config import LTX_090, LTX_091, LTX_095, tiny, tiny_old
from longtake.models.model import with_size
from tests.checkpoints import random_ltx
from tests.models.ltx.test_checkpoint import released, video
from tests.oracles import apart, oracle

# ---------------------------------------------------------------- official files
PUBLISHED = {  # the "vae" entry of their metadata
    "0.9.0": dict(
        blocks=[
            ["res_x", 4], ["compress_all", 1], ["res_x_y", 1], ["res_x", 3], ["compress_all", 1], ["res_x_y", 1],
            ["res_x", 3], ["compress_all", 1], ["res_x", 3], ["res_x", 4],
        ],
    ),
    "0.9.1": dict(
        encoder_blocks=[
            ["res_x", {"num_layers": 4}], ["compress_all", {}], ["res_x_y", 1], ["res_x", {"num_layers": 3}],
            ["compress_all", {}], ["res_x_y", 1], ["res_x", {"num_layers": 3}], ["compress_all", {}],
            ["res_x", {"num_layers": 3}], ["res_x", {"num_layers": 4}],
        ],
        decoder_blocks=[
            ["res_x", {"num_layers": 5, "inject_noise": True}], ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 6, "inject_noise": True}], ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 7, "inject_noise": True}], ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 8, "inject_noise": False}],
        ],
        timestep_conditioning=True,
    ),
    "0.9.5": dict(
        encoder_blocks=[
            ["res_x", {"num_layers": 4}], ["compress_space_res", {"multiplier": 2}], ["res_x", {"num_layers": 6}],
            ["compress_time_res", {"multiplier": 2}], ["res_x", {"num_layers": 6}],
            ["compress_all_res", {"multiplier": 2}], ["res_x", {"num_layers": 2}],
            ["compress_all_res", {"multiplier": 2}], ["res_x", {"num_layers": 2}],
        ],
        decoder_blocks=[
            ["res_x", {"num_layers": 5, "inject_noise": False}], ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 5, "inject_noise": False}], ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 5, "inject_noise": False}], ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 5, "inject_noise": False}],
        ],
        timestep_conditioning=True,
    ),
}  # fmt: skip
COMMON = dict(
    _class_name="CausalVideoAutoencoder", dims=3, in_channels=3, out_channels=3, latent_channels=128, patch_size=4,
    norm_layer="pixel_norm", latent_log_var="uniform", use_quant_conv=False, causal_decoder=False, scaling_factor=1.0,
)  # fmt: skip
CONFIGS = {"0.9.0": LTX_090, "0.9.1": LTX_091, "0.9.5": LTX_095}


def official_network(name: str) -> str:
    """The name of a weight of the network in official files."""
    for ours, theirs in (("proj_in.", "patchify_proj."), ("time_embed.", "adaln_single.")):
        if name.startswith(ours):
            name = theirs + name.removeprefix(ours)
    return "model.diffusion_model." + name.replace(".norm_q.", ".q_norm.").replace(".norm_k.", ".k_norm.")


def official_vae(name: str, config) -> str:
    """The same for the vae."""
    rows = {"encoder": ("down_blocks", ltx_original.encoder_places(config))}
    rows["decoder"] = ("up_blocks", ltx_original.decoder_places(config))
    for half, (row, places) in rows.items():
        for place in sorted(places, key=len, reverse=True):
            if name.startswith(f"{half}.{place}."):
                name = f"{half}.{row}.{places.index(place)}." + name.removeprefix(f"{half}.{place}.")
                break
    statistics = {"latents_mean": "mean-of-means", "latents_std": "std-of-means"}
    if name in statistics:
        return "vae.per_channel_statistics." + statistics[name]
    for ours, theirs in (
        (".resnets.", ".res_blocks."), (".conv_shortcut.conv.", ".conv_shortcut."), (".norm3.", ".norm3.norm."),
        ("decoder.time_embedder", "decoder.last_time_embedder"),
        ("decoder.scale_shift_table", "decoder.last_scale_shift_table"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return "vae." + name


@pytest.mark.parametrize("version", CONFIGS)
def test_metadata_of_released_files_is_understood(version):
    assert ltx_original.read(COMMON | PUBLISHED[version]) == CONFIGS[version]


@pytest.mark.parametrize("version", CONFIGS)
def test_names_of_official_files_become_those_of_diffusers(version):
    config = CONFIGS[version]
    with torch.device("meta"):
        ours = LTXVAE(config).state_dict()
    theirs = {official_vae(name, config): tensor for name, tensor in ours.items()}
    names = ltx_original.vae_names(config)
    assert {name: rename(name, names) for name in theirs} == {official_vae(n, config): n for n in ours}
    convert = oracle("diffusers.loaders.single_file_utils", "convert_ltx_vae_checkpoint_to_diffusers")
    converted = convert(dict(theirs) | {"vae.per_channel_statistics.channel": torch.zeros(1)})
    assert {name: tuple(t.shape) for name, t in converted.items()} == {n: tuple(t.shape) for n, t in ours.items()}


def test_names_of_the_network_become_those_of_diffusers():
    with torch.device("meta"):
        ours = LTXTransformer(LTXConfig(num_layers=2)).state_dict()
    theirs = {official_network(name): tensor for name, tensor in ours.items()}
    assert [rename(name, ltx_original.NETWORK) for name in theirs] == list(ours)
    convert = oracle("diffusers.loaders.single_file_utils", "convert_ltx_transformer_checkpoint_to_diffusers")
    assert set(convert(dict(theirs))) == set(ours)


TINY = dict(
    latent_channels=4, patch_size=1, encoder_base_channels=4, decoder_base_channels=8, timestep_conditioning=True,
    encoder_blocks=[
        ["res_x", 1], ["compress_space_res", {"multiplier": 2}], ["res_x", 1], ["compress_time_res", {"multiplier": 2}],
        ["res_x", 1], ["compress_all_res", {"multiplier": 1}], ["res_x", 1], ["compress_all_res", {"multiplier": 1}],
        ["res_x", 1],
    ],
    decoder_blocks=[
        ["res_x", 1], ["compress_all", {"residual": True, "multiplier": 2}], ["res_x", 1],
        ["compress_all", {"residual": True, "multiplier": 2}], ["res_x", 1],
        ["compress_all", {"residual": True, "multiplier": 2}], ["res_x", 1],
    ],
)  # fmt: skip


def single(folder: Path, name: str = "ltx.safetensors", **about) -> Path:
    """The weights of a folder as one official file beside its texts."""
    tensors = {
        official_network(k): v for k, v in load_file(next((folder / "transformer").glob("*.safetensors"))).items()
    }
    vae = load_file(next((folder / "vae").glob("*.safetensors")))
    tensors |= {official_vae(k, tiny()): v for k, v in vae.items()}
    tensors["vae.per_channel_statistics.channel"] = torch.arange(4.0)
    config = {"transformer": {"num_attention_heads": 2, "causal_temporal_positioning": True}, "vae": COMMON | TINY}
    save_file(tensors, folder / name, {"config": json.dumps(config | about)})
    return folder / name


def test_an_official_file_is_the_same_model(tmp_path):
    folder = released(tmp_path / "m")
    file = single(folder)
    one, two = open_folder(folder), open_folder(file)
    assert find(file).network_config == find(folder).network_config and two.name == "ltx"
    one, two = (with_size(model, (16, 16)) for model in (one, two))
    assert apart(video(one, frames=30, overlap=9), video(two, frames=30, overlap=9)) < 1e-5  # other alignment


def test_a_distilled_file_states_its_sigmas(tmp_path):
    model = open_folder(single(released(tmp_path / "m"), allowed_inference_steps=[1.0, 0.9937, 0.725]))
    for options in (model.defaults.sampling_options, model.defaults.strategy_options):
        assert options["sigmas"] == "1,0.9937,0.725" and options["sigma_spacing"] == "quadratic"
    assert model.defaults.guidance_scale == 1.0


@pytest.mark.parametrize("version", CONFIGS)
def test_versions_are_recognised_from_tensors_alone(version):
    with torch.device("meta"):
        vae = LTXVAE(CONFIGS[version])
    names = [official_vae(name, CONFIGS[version]).removeprefix("vae.") for name in vae.state_dict()]
    entries = dict(zip(names, vae.state_dict().values()))
    assert ltx_original.released(entries) == CONFIGS[version]


def test_official_files_that_cannot_be_used_are_refused(tmp_path):
    folder = released(tmp_path / "m")
    with pytest.raises(WeightsError, match="positional_embedding_max_pos"):
        open_folder(single(folder, transformer={"positional_embedding_max_pos": [10, 1, 1]}))
    with pytest.raises(WeightsError, match="compress_sideways"):
        open_folder(single(folder, vae=COMMON | TINY | {"encoder_blocks": [["res_x", 1], ["compress_sideways", 1]]}))
    with pytest.raises(WeightsError, match="causal_decoder = True"):
        open_folder(single(folder, vae=COMMON | TINY | {"causal_decoder": True}))
    file = single(folder)
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if not k.startswith("vae.")}, folder / "net.safetensors")
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        open_folder(file)
    file.unlink()
    (folder / "vae").rename(tmp_path / "vae")
    with pytest.raises(WeightsError, match=r"holds no VAE, and there is none beside it: put the folder vae/"):
        open_folder(folder / "net.safetensors")
    (tmp_path / "vae").rename(folder / "vae")
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(WeightsError, match=r"lacks text_encoder: copy those folders .* next to ltx\.safetensors"):
        open_folder(single(folder))


def test_a_transformer_and_a_vae_of_different_channels_are_refused(tmp_path):
    folder = random_ltx(tmp_path / "m")
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latent_channels": 8}))
    with pytest.raises(WeightsError, match="takes 4 channels, but the VAE has 8"):
        open_folder(folder)


def test_tiny_vaes_have_the_layouts_of_releases():
    assert [config.encoder.grown for config in (tiny_old(), tiny(), LTX_090, LTX_095)] == [False, True] * 2
    assert WORDS == 256
