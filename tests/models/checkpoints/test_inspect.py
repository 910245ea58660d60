"""Checkpoints are described from headers alone; files of real size are sparse here, so no tensor can be read."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from longtake.models import ModelError
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.checkpoints.safetensors_headers import entries, header
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.models.registry import inspect
from longtake.models.wan.presets import IMAGE_PARAMETERS, KINDS, PRESETS, TEXT_PARAMETERS, VAE_PARAMETERS, preset
from longtake.models.wan.vae import WanVAE
from longtake.models.wan.vae_config import WanVAEConfig
from tests import released

UMT5 = T5Config(vocab_size=256384, d_model=4096, d_ff=10240, num_layers=24, num_heads=64)


def shapes(net, name=lambda name: name):
    return {name(key): tuple(tensor.shape) for key, tensor in net.state_dict().items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """SkyReels-V2 DF 1.3B as published, with its pickles converted: 17 GB in sparse files."""
    folder = tmp_path_factory.mktemp("real") / "m"
    (folder / "google" / "umt5-xxl").mkdir(parents=True)
    released.tokenizer().save(str(folder / "google" / "umt5-xxl" / "tokenizer.json"))
    network = released.shapes(preset("skyreels-v2-df-1.3b-540p").config(), released.wan_name)
    released.blank(folder / "model.safetensors", network, "F32", 4)
    with torch.device("meta"):
        vae, text = WanVAE(WanVAEConfig()), T5Encoder(UMT5)
    released.blank(folder / "vae.safetensors", shapes(vae, released.vae_name), "F32", 4)
    released.blank(folder / "t5.safetensors", shapes(text, released.text_name))
    (folder / "config.json").write_text(json.dumps(dict(num_heads=12, model_type="t2v", inject_sample_info=True)))
    return folder


def test_a_complete_checkpoint_of_real_size_is_described(whole):
    report = inspect(whole)
    assert report.complete and report.missing == () and report.notes == ()
    assert (report.family, report.layout, report.kind) == ("wan", "original layout", "df")
    assert report.presets == ("skyreels-v2-df-1.3b-540p",)
    assert report.licence == "skywork-license"
    counts = {part.name: (part.parameters, part.dtypes, part.bytes) for part in report.parts}
    assert counts["transformer"] == (1_435_525_696, ("F32",), 4 * 1_435_525_696)
    assert counts["vae"] == (VAE_PARAMETERS, ("F32",), 4 * VAE_PARAMETERS)
    assert counts["text_encoder"] == (TEXT_PARAMETERS, ("BF16",), 2 * TEXT_PARAMETERS)
    text = "\n".join(report.lines())
    for words in (
        KINDS["df"],
        "1,435,525,696 parameters, 5.74 GB, F32",
        "1536 wide, 30 layers, 12 heads",
        "16 channels",
    ):
        assert words in text
    assert json.loads(json.dumps(report.facts()))["complete"] is True


def test_missing_and_unexpected_tensors_are_reported(whole, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("*.safetensors", "google"))
    network = released.shapes(preset("skyreels-v2-df-1.3b-540p").config(), released.wan_name)
    del network["blocks.3.self_attn.q.weight"]
    released.blank(folder / "model.safetensors", network | {"extra": (3,)})
    (folder / "Wan2.1_VAE.pth").write_bytes(b"never opened")
    report = inspect(folder)
    assert not report.complete
    assert report.missing == ("vae", "text_encoder", "tokenizer")
    assert report.parts[0].fault.endswith("1 missing: blocks.3.attn1.to_q.weight; 1 left over: extra")
    assert any("Wan2.1_VAE.pth" in note for note in report.notes)
    assert "does not fit" in "\n".join(report.lines())
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: my-own\n---\nHello")
    assert inspect(folder).licence == "my-own"


def test_files_that_fit_several_kinds_list_the_presets(tmp_path):
    big = preset("skyreels-v2-df-14b-540p")
    file = released.blank(tmp_path / "x.safetensors", released.shapes(big.config(), released.wan_name))
    report = inspect(file)
    assert report.kind == "" and not report.complete and "kind: unknown" in report.lines()[1]
    assert set(report.presets) >= {"skyreels-v2-df-14b-540p", "skyreels-v2-t2v-14b-720p", "wan2.1-t2v-14b"}
    assert "name its preset" in report.notes[0]
    report = inspect(file, big)
    assert (report.kind, report.presets) == ("df", (big.name,))


@pytest.mark.parametrize("kind", KINDS)
def test_small_checkpoints_are_described_in_every_layout(tmp_path, kind):
    made = released.parts(kind)
    for path in (released.diffusers(tmp_path / "d", made), released.single(tmp_path / "s", made)):
        report = inspect(path)
        assert report.complete and report.kind == kind, report.lines()
        assert len(report.parts) == (4 if kind == "i2v" else 3)
    alone = inspect(tmp_path / "s" / "vae" / "wan_vae.safetensors")
    assert [part.name for part in alone.parts] == ["vae"] and not alone.parts[0].fault
    if kind == "i2v":
        eyes = inspect(released.original(tmp_path / "o", made)).parts[-1]
        assert (eyes.name, eyes.fault) == ("image_encoder", "")


def test_a_diffusers_folder_of_real_size_is_described(tmp_path):
    (tmp_path / "transformer").mkdir()
    config = PRESETS["wan2.1-i2v-14b-480p"].config()
    released.blank(tmp_path / "transformer" / "x.safetensors", released.shapes(config))
    about = dict(config.__dict__, _class_name="WanTransformer3DModel")
    about = {key: value for key, value in about.items() if key not in ("causal", "block", "max_latent_frames")}
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(about))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanImageToVideoPipeline"}))
    report = inspect(tmp_path)
    assert report.presets == ("wan2.1-i2v-14b-480p", "wan2.1-i2v-14b-720p") and report.kind == "i2v"
    assert report.missing == ("vae", "text_encoder", "image_encoder", "tokenizer")
    assert report.parts[0].parameters == 16_394_878_784 and not report.parts[0].fault
    assert IMAGE_PARAMETERS == 630_766_080


# ---------------------------------------------------------------- headers
def test_headers_equal_what_safetensors_reads(tmp_path):
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}, file, {"format": "pt"})
    found = header(file)
    assert {name: (e.dtype, e.shape, e.bytes) for name, e in found.items()} == {
        "a": ("F32", (2, 3), 24),
        "b": ("BF16", (4,), 8),
    }
    assert set(entries(file, [("^a$", "c"), ("^b$", None)])) == {"c"}


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_truncated_file_is_refused_from_its_header(tmp_path, keep):
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2, 3)}, file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        inspect(file)


def test_a_path_that_is_not_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ModelError, match="is no checkpoint"):
        inspect(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="holds no known layout of weights: its tensors are named a"):
        inspect(tmp_path / "x.safetensors")


def test_a_lora_and_an_empty_file_are_named(tmp_path):
    for names, words in (
        ([], "holds no tensors"),
        (
            ["blocks.0.attn1.to_q.lora_A.weight", "blocks.0.attn1.to_q.lora_B.weight", "blocks.0.attn1.to_q.alpha"],
            "is a LoRA",
        ),
        (
            ["lora_unet_blocks_0_self_attn_q.lora_down.weight", "blocks.0.diff_m", "a.hada_w1_a", "a.lokr_w1"],
            "is a LoRA",
        ),
        (["a.weight"], "no known layout"),
    ):
        save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "x.safetensors")
        with pytest.raises(ModelError, match=words):
            inspect(tmp_path / "x.safetensors")
