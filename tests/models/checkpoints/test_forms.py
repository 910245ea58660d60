"""Checkpoints in fewer bits and under other names: scaled float8, GGUF and prefixes give the weights of the formula."""

import json

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models import load
from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.ltx.config import tiny
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.ltx.vae import load as load_vae
from longtake.models.registry import inspect
from longtake.models.wan import config as wan_config
from longtake.models.wan.transformer import WanTransformer
from tests import released
from tests.models.ltx.test_checkpoint import released as released_ltx
from tests.models.ltx.test_single_file import COMMON, TINY, official_network, official_vae, single
from tests.oracles import rand, shuffled

FP8 = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


def network_of(model):
    """Return the transformer of a model."""
    return released.session(model).net


def matrices(net) -> list[str]:
    """Return the names of the weights of the linear layers in the blocks."""
    linear = [name for name, layer in net.named_modules() if isinstance(layer, torch.nn.Linear)]
    return [f"{name}.weight" for name in linear if "blocks" in name]


def scaled(tensors, chosen, dtype=torch.float8_e4m3fn, name="scale_weight", rows=False):
    """Return tensors of which the chosen ones are float8 with scales, and the weights that they stand for."""
    made, want = {}, dict(tensors)
    for key, tensor in tensors.items():
        if key not in chosen:
            made[key] = tensor
            continue
        scale = tensor.abs().amax(1, keepdim=True) / 400 if rows else tensor.abs().max() / 300
        made[key] = (tensor / scale).to(dtype)
        stem = key.removesuffix(".weight")
        made[f"{stem}.{name}"] = scale.float()
        made[f"{stem}.{'scale_input' if name == 'scale_weight' else 'input_scale'}"] = torch.tensor(2.0)
        want[key] = made[key].float() * scale
    if name == "scale_weight":
        made["scaled_fp8"] = torch.zeros(0, dtype=dtype)
    return made, want


@pytest.fixture
def parts():
    return released.parts("t2v")


# ---------------------------------------------------------------- scaled float8
@pytest.mark.parametrize(
    ("dtype", "name", "rows"),
    [("e4m3", "scale_weight", False), ("e5m2", "scale_weight", False), ("e4m3", "weight_scale", True)],
)
def test_scaled_float8_is_weight_times_scale(tmp_path, parts, dtype, name, rows):
    path = released.single(tmp_path / "m", parts)
    chosen = matrices(parts.net)
    made, want = scaled(parts.net.state_dict(), chosen, FP8[dtype], name, rows)
    spelt = {f"model.diffusion_model.{released.wan_name(key)}": tensor.contiguous() for key, tensor in made.items()}
    save_file(spelt, tmp_path / "m" / "diffusion_models" / "wan.safetensors")
    assert inspect(path).complete
    net = network_of(load(path))
    for key, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, want[key], rtol=1e-6, atol=0)


def test_the_text_encoder_of_comfyui_is_read_scaled(tmp_path, parts):
    path = released.single(tmp_path / "m", parts)
    tensors = parts.text.state_dict()
    chosen = [key for key in tensors if key.endswith((".q.weight", ".wi_0.weight", ".wo.weight"))]
    made, want = scaled(tensors, chosen)
    save_file(
        made | {"spiece_model": torch.zeros(3, dtype=torch.uint8)},
        tmp_path / "m" / "text_encoders" / "umt5.safetensors",
    )
    assert inspect(path).complete
    encoder = load(path).text_encoder.encoder
    for key in chosen:
        torch.testing.assert_close(encoder.state_dict()[key], want[key], rtol=1e-6, atol=0)


@pytest.mark.parametrize("with_scale", [True, False])
def test_fp8_keeps_the_numbers_of_a_file_in_float8(tmp_path, parts, with_scale):
    path = released.single(tmp_path / "m", parts)
    chosen = matrices(parts.net)
    made, _ = scaled(parts.net.state_dict(), chosen)
    if not with_scale:
        made = {key: tensor for key, tensor in made.items() if not key.endswith(("_weight", "_input", "_fp8"))}
        assert all(made[key].dtype == torch.float8_e4m3fn for key in chosen)
    spelt = {f"diffusion_model.{released.wan_name(key)}": tensor.contiguous() for key, tensor in made.items()}
    save_file(spelt, tmp_path / "m" / "diffusion_models" / "wan.safetensors")
    plain, kept = network_of(load(path)), network_of(load(path, fp8=True))
    for key, tensor in kept.state_dict().items():
        stored = torch.float8_e4m3fn if key in chosen else torch.float32
        assert tensor.dtype == stored and (key not in chosen or torch.equal(tensor.float(), made[key].float()))
    x, text = rand(1, 16, 2, 4, 4), rand(1, 3, 10)
    with torch.no_grad():
        a, b = plain(x, torch.tensor(0.5), text), kept(x, torch.tensor(0.5), text)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_fp8_quantises_other_files_as_before(tmp_path, parts):
    """A file in float32 is quantised by rows, one matrix at a time."""
    from longtake.models.runtime.fp8 import dequantize, quantize

    folder = released.diffusers(tmp_path / "m", parts)
    net = network_of(load(folder, fp8=True))
    name = "blocks.0.attn1.to_q.weight"
    quantized, scale = quantize(parts.net.state_dict()[name])
    assert torch.equal(net.state_dict()[name].float(), quantized.float())
    [block, _] = net.blocks.blocks
    for ready in net.blocks:
        assert torch.equal(ready.attn1.to_q.weight, dequantize(quantized, scale, torch.float32))
        break
    assert block.attn1.to_q.weight.dtype == torch.float8_e4m3fn


SIGNS = {  # a tensor beside the weights, or its dtype -> the words of the refusal
    "int8 with scales": (lambda w: {"weight": w.to(torch.int8), "weight_scale": torch.ones(())}, "int8"),
    "int8 alone": (lambda w: {"weight": w.to(torch.int8)}, r"whole numbers without scales: \S+to_q.weight \(I8\)"),
    "nvfp4": (lambda w: {"weight": w.to(torch.uint8), "weight_scale": torch.ones(())}, "4 bits"),
    "mxfp8": (lambda w: {"weight": w.to(FP8["e4m3"]), "weight_scale": torch.ones(24, 3)}, "MXFP8"),
    "blocks": (lambda w: {"weight": w.to(FP8["e4m3"]), "weight_scale_inv": torch.ones(1, 1)}, "128 x 128"),
    "bitsandbytes": (lambda w: {"weight": w, "weight.absmax": torch.ones(3)}, "bitsandbytes in 4 bits"),
    "bitsandbytes int8": (lambda w: {"weight": w, "SCB": torch.ones(24)}, r"bitsandbytes in 8 bits \(int8\)"),
    "gptq": (lambda w: {"qweight": w, "qzeros": w}, "GPTQ or AWQ"),
    "quanto": (lambda w: {"weight._data": w, "weight._scale": torch.ones(24)}, "optimum-quanto"),
    "nunchaku": (lambda w: {"weight": w, "wscales": torch.ones(24)}, "SVDQuant"),
    "compressed": (lambda w: {"weight_packed": w, "weight_scale": torch.ones(24)}, "compressed-tensors"),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_other_quantisations_are_named_and_refused(tmp_path, parts, sign):
    folder = released.diffusers(tmp_path / "m", parts)
    file = next((folder / "transformer").glob("*.safetensors"))
    change, words = SIGNS[sign]
    tensors = load_file(file)
    stem = "blocks.0.attn1.to_q"
    weight = tensors.pop(f"{stem}.weight")
    save_file(tensors | {f"{stem}.{key}": one.clone() for key, one in change(weight).items()}, file)
    with pytest.raises(WeightsError, match=rf"{words}.*GGUF version of the checkpoint"):
        load(folder)
    try:
        report = inspect(folder)
    except WeightsError:
        return
    assert not report.complete


def test_a_config_that_states_a_quantisation_is_refused(tmp_path, parts):
    folder = released.diffusers(tmp_path / "m", parts)
    for part in ("transformer", "text_encoder"):
        config = folder / part / "config.json"
        stated = config.read_text()
        config.write_text(json.dumps(json.loads(stated) | {"quantization_config": {"quant_method": "bitsandbytes"}}))
        with pytest.raises(WeightsError, match="weights quantised by bitsandbytes"):
            load(folder)
        config.write_text(stated)


# ---------------------------------------------------------------- prefixes
PREFIXES = ("diffusion_model.", "model.", "net.", "_orig_mod.", "module.", "module._orig_mod.model.diffusion_model.")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_training_tools_are_read(tmp_path, parts, prefix):
    path = released.single(tmp_path / "m", parts)
    for net, file, name in (
        (parts.net, "diffusion_models/wan.safetensors", released.wan_name),
        (parts.vae, "vae/wan_vae.safetensors", released.vae_name),
        (parts.text, "text_encoders/umt5.safetensors", released.text_name),
    ):
        save_file({prefix + name(key): one for key, one in net.state_dict().items()}, tmp_path / "m" / file)
    assert inspect(path).complete
    assert inspect(tmp_path / "m" / "diffusion_models" / "wan.safetensors").parts[0].fault == ""
    model = load(path)
    assert torch.equal(network_of(model).proj_out.weight, parts.net.proj_out.weight)
    assert torch.equal(model.vae.quant_conv.weight, parts.vae.quant_conv.weight)
    assert torch.equal(model.text_encoder.encoder.shared.weight, parts.text.shared.weight)


@pytest.mark.parametrize("inside", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_names_of_wrappers_inside_are_read(tmp_path, inside):
    net = WanTransformer(wan_config.tiny())
    tensors = {f"model.{name}".replace("blocks.", f"blocks.{inside}"): one for name, one in net.state_dict().items()}
    tensors = {name.replace(f"blocks.{inside}0.", f"blocks.0.{inside}"): one for name, one in tensors.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    again = weights.load(WanTransformer, net.config, tmp_path / "x.safetensors", wan_config.NAMES)
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in net.state_dict().items())


@pytest.mark.parametrize("prefix", ["diffusion_model.", "module.model.diffusion_model.", "_orig_mod.", ""])
def test_prefixes_of_ltx_files_are_read(tmp_path, prefix):
    folder = released_ltx(tmp_path / "m")
    file = single(folder)
    tensors = {name.replace("model.diffusion_model.", prefix): one for name, one in load_file(file).items()}
    want = network_of(load(file))
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        about = json.loads(stream.read(length))["__metadata__"]
    save_file(tensors, file, about)
    assert inspect(file).complete
    have = network_of(load(file))
    assert all(torch.equal(one, have.state_dict()[name]) for name, one in want.state_dict().items())


# ---------------------------------------------------------------- GGUF
TYPES = gguf.GGMLQuantizationType


def wide_parts():
    """Return networks whose matrices have rows of whole blocks of 256 numbers, as GGUF's K types need."""
    config = wan_config.tiny(
        num_attention_heads=2, attention_head_dim=128, in_channels=16, out_channels=16, text_dim=256, freq_dim=256,
        ffn_dim=256, num_layers=2,
    )  # fmt: skip
    torch.manual_seed(0)
    made = released.parts("t2v")
    net = WanTransformer(config)
    return released.Parts("t2v", net, made.vae, made.text, made.image_encoder)


def random_blocks(kind, shape, seed=0):
    """Return random blocks of a type as bytes (rows, bytes of a row), with small scales so that all values are finite."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    count = shape[0] * shape[1] // block
    raw = np.random.default_rng(seed).integers(0, 256, (count, size), dtype=np.uint8)
    scale = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
    for at in {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q3_K": (108,), "Q2_K": (80, 82)}[kind.name]:
        raw[:, at : at + 2] = scale
    return raw.reshape(shape[0], -1)


def write_gguf(file, tensors, architecture="wan", kinds=None):
    """Write a GGUF file; kinds: name -> type of the matrices. Returns the values that each tensor stands for."""
    writer, want = gguf.GGUFWriter(file, architecture), {}
    for number, (name, tensor) in enumerate(tensors.items()):
        kind = (kinds or {}).get(name)
        values = tensor.detach().float().numpy()
        if values.ndim > 4:  # as converters for ComfyUI keep five dimensions
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(values.shape))
            values = values.reshape(values.shape[0], -1)
        if kind is None:
            writer.add_tensor(name, values)
            want[name] = tensor.detach().float()
            continue
        if kind.name.endswith("_K"):
            raw = random_blocks(kind, values.shape, number)
        else:
            raw = gguf.quants.quantize(values, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
        want[name] = torch.from_numpy(gguf.quants.dequantize(raw, kind)).reshape(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return want


KINDS = [
    "BF16",
    "Q8_0",
    "Q4_K",
    *(pytest.param(kind, marks=pytest.mark.long) for kind in ("F16", "Q4_0", "Q5_1", "Q5_K", "Q6_K")),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_gguf_of_wan_gives_the_dequantised_weights(tmp_path, kind):
    made = wide_parts()
    path = released.single(tmp_path / "m", made, transformer="wan.gguf")
    tensors = {released.wan_name(name): tensor for name, tensor in made.net.state_dict().items()}
    chosen = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    want = write_gguf(tmp_path / "m" / "wan.gguf", tensors, kinds=dict.fromkeys(chosen, TYPES[kind]))
    report = inspect(path)
    assert report.complete and kind in report.parts[0].dtypes
    state = network_of(load(path)).state_dict()
    for name, tensor in made.net.state_dict().items():
        assert torch.equal(state[name], want[released.wan_name(name)]), name
        assert state[name].shape == tensor.shape
    half = network_of(load(path, dtype="bf16")).state_dict()
    assert all(torch.equal(half[name], one.bfloat16()) for name, one in state.items())


def straight_q4_k(raw: bytes) -> list[float]:
    """Return the 256 numbers of one block of Q4_K, number by number: scale and minimum of each 32 numbers have 6 bits."""
    d, least = np.frombuffer(raw[:4], np.float16).astype(np.float64)
    bits, quarters, numbers = raw[4:16], raw[16:], []
    for group in range(8):
        if group < 4:
            scale, low = bits[group] & 63, bits[group + 4] & 63
        else:
            scale = (bits[group + 4] & 15) | ((bits[group - 4] >> 6) << 4)
            low = (bits[group + 4] >> 4) | ((bits[group] >> 6) << 4)
        for i in range(32):
            byte = quarters[32 * (group // 2) + i]
            numbers.append(d * scale * (byte >> 4 if group % 2 else byte & 15) - least * low)
    return numbers


def test_q4_k_is_its_formula(tmp_path):
    raw = random_blocks(TYPES.Q4_K, (2, 256))
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "wan")
    writer.add_tensor("a.weight", raw, raw_dtype=TYPES.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    have = weights.read(tmp_path / "x.gguf")["a.weight"]
    want = torch.tensor([straight_q4_k(row.tobytes()) for row in raw])
    torch.testing.assert_close(have.double(), want, rtol=1e-6, atol=1e-6)


def test_a_gguf_is_kept_in_float8_with_fp8(tmp_path):
    made = wide_parts()
    path = released.single(tmp_path / "m", made, transformer="wan.gguf")
    tensors = {released.wan_name(name): tensor for name, tensor in made.net.state_dict().items()}
    chosen = [released.wan_name(name) for name in matrices(made.net)]
    write_gguf(tmp_path / "m" / "wan.gguf", tensors, kinds=dict.fromkeys(chosen, TYPES.Q8_0))
    net = network_of(load(path, fp8=True))
    assert {net.state_dict()[name].dtype for name in matrices(made.net)} == {torch.float8_e4m3fn}
    x, text = rand(1, 16, 1, 4, 4), rand(1, 3, 256)
    with torch.no_grad():
        a, b = network_of(load(path))(x, torch.tensor(0.5), text), net(x, torch.tensor(0.5), text)
    assert 0 < (a - b).abs().max() < 0.2 * a.abs().max()


def test_a_folder_with_a_gguf_opens(tmp_path):
    """The transformer as GGUF among the files of an original folder, and a text encoder with the names of llama.cpp."""
    parts = released.parts("df")
    folder = released.original(tmp_path / "m", parts)
    for file in folder.glob("diffusion*"):
        file.unlink()
    write_gguf(folder / "wan.gguf", {released.wan_name(k): v for k, v in parts.net.state_dict().items()})
    encoder = folder / "models_t5_umt5-xxl-enc-bf16.safetensors"
    write_gguf(folder / "umt5.gguf", {llama_name(k): v for k, v in parts.text.state_dict().items()}, "t5encoder")
    encoder.unlink()
    assert inspect(folder).complete
    model = load(folder)
    assert torch.equal(network_of(model).proj_out.weight, parts.net.proj_out.weight)
    have = model.text_encoder.encoder.state_dict()
    assert all(torch.equal(have[name], one) for name, one in parts.text.state_dict().items())


def llama_name(name: str) -> str:
    """Return the name of a tensor of the text encoder in GGUF files."""
    for ours, theirs in (
        ("encoder.block.", "enc.blk."), ("encoder.final_layer_norm", "enc.output_norm"), ("shared", "token_embd"),
        ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"), ("layer.0.SelfAttention.", "attn_"),
        ("layer.0.layer_norm", "attn_norm"), ("layer.1.layer_norm", "ffn_norm"),
        ("layer.1.DenseReluDense.wi_0", "ffn_gate"), ("layer.1.DenseReluDense.wi_1", "ffn_up"),
        ("layer.1.DenseReluDense.wo", "ffn_down"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("vae", ["folder", "file", "bare file"])
def test_a_gguf_of_ltx_opens_with_the_vae_beside_it(tmp_path, vae):
    """A GGUF holds the transformer alone; its VAE is that of a diffusers folder, or a file of its own."""
    folder = released_ltx(tmp_path / "m")
    net = shuffled(LTXTransformer(tiny(num_attention_heads=32, attention_head_dim=2, cross_attention_dim=64)))
    coder = load_vae(folder / "vae")
    names = {official_network(name).removeprefix("model.diffusion_model."): name for name in net.state_dict()}
    tensors = {theirs: net.state_dict()[name] for theirs, name in names.items()}
    q8 = {name: TYPES.Q8_0 for name, one in tensors.items() if one.ndim == 2 and one.shape[1] % 32 == 0}
    want = write_gguf(folder / "ltx.gguf", tensors, "ltxv", q8)
    (folder / "transformer").rename(tmp_path / "transformer")
    (folder / "model_index.json").unlink(missing_ok=True)
    if vae != "folder":
        (folder / "vae").rename(tmp_path / "vae")
        spelt = {official_vae(name, coder.config): one for name, one in coder.state_dict().items()}
        spelt = {name if vae == "file" else name.removeprefix("vae."): one for name, one in spelt.items()}
        save_file(spelt, folder / "vae.safetensors", {"config": json.dumps({"vae": COMMON | TINY})})
    for path in (folder, folder / "ltx.gguf"):
        report = inspect(path)
        assert report.complete, report.lines()
        model = load(path)
        state, vae_state = network_of(model).state_dict(), model.vae.state_dict()
        assert all(torch.equal(state[name], want[theirs]) for theirs, name in names.items())
        assert all(torch.equal(vae_state[name], one) for name, one in coder.state_dict().items())
