"""Every layout of LoRA files gives the weights of the formula, and those that PEFT merges."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from longtake.models.lora.key_formats import KeyFormat, module_of
from longtake.models.lora.merge import MergedLoras
from longtake.models.lora.read import read
from longtake.models.wan.layout.lora_names import SVI_TARGETS
from tests.models.lora.helpers import (
    ALPHA,
    MORE,
    RANK,
    bits,
    by_hand,
    close,
    down_up,
    flat,
    matched,
    merged,
    network,
    of_one_layer,
    pairs,
    peft_keys,
    same,
    svi_keys,
)
from tests.oracles import rand
from tests.released import wan_name

CONFIG = {"r": RANK, "lora_alpha": ALPHA, "target_modules": list(SVI_TARGETS)}
HEADER = {"lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in CONFIG.items()})}
LAYOUTS = {  # name -> (tensors of a LoRA, header, whether alpha is known)
    "diffusers": (lambda low: {k.replace("base_model.model", "transformer"): v for k, v in peft_keys(low).items()}, HEADER, True),
    "diffusers of old": (
        lambda low: {
            f"transformer.{name}.lora.{side}.weight": t for name, ab in low.items() for side, t in zip(("down", "up"), ab)
        }, None, False,
    ),
    "bare": (lambda low: {k.removeprefix("base_model.model."): v for k, v in peft_keys(low).items()}, None, False),
    "comfy": (lambda low: down_up(low, "diffusion_model.", wan_name), None, True),
    "comfy, PEFT pairs": (
        lambda low: {k.replace("pipe.dit", "diffusion_model").replace(".default", ""): v for k, v in svi_keys(low).items()},
        None, False,
    ),
    "kohya": (lambda low: down_up(low, "lora_unet_", lambda name: flat(wan_name(name))), None, True),
    "kohya, diffusers names": (lambda low: down_up(low, "lora_unet_", flat), None, True),
    "svi": (svi_keys, None, False),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("targets", [SVI_TARGETS, SVI_TARGETS + MORE], ids=["svi", "more"])
def test_every_layout_gives_the_weights_of_the_formula(tmp_path, layout, targets):
    make, header, alpha = LAYOUTS[layout]
    net = network()
    low = pairs(net, targets)
    save_file(make(low), tmp_path / "x.safetensors", header)
    want = by_hand(net, low, 0.7, ALPHA / RANK if alpha else 1.0)
    merged(net, tmp_path / "x.safetensors", 0.7, modules=len(low))
    assert close(net, want)


def peft_folder(net, low, folder, **changes):
    """A folder as PEFT writes it, and PEFT's own merge of it."""
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(SVI_TARGETS), **changes)
        model = peft.get_peft_model(network(), config)
        with torch.no_grad():
            for name, (down, up) in low.items():
                layer = model.base_model.model.get_submodule(name)
                layer.lora_A["default"].weight.copy_(down[: len(layer.lora_A["default"].weight)])
                layer.lora_B["default"].weight.copy_(up[:, : layer.lora_B["default"].weight.shape[1]])
        model.save_pretrained(folder)
        return bits(model.merge_and_unload())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"to_q": 2, "ffn.net.2": 1}, "alpha_pattern": {"blocks.1.attn1.to_q": 5}},
    ],
    ids=["plain", "rslora", "patterns"],
)
def test_weights_equal_those_that_peft_merges(tmp_path, changes):
    net = network()
    want = peft_folder(net, pairs(net), tmp_path / "peft", **changes)
    merged(net, tmp_path / "peft", modules=len(matched(net)))
    assert not same(bits(net), bits(network()))
    assert close(net, want)


def test_a_fused_module_changes_each_of_its_parts(tmp_path):
    net = network()
    down, up = rand(RANK, 24), rand(72, RANK, seed=2)
    save_file({"transformer.blocks.1.attn1.to_qkv.lora_A.weight": down, "transformer.blocks.1.attn1.to_qkv.lora_B.weight": up}, tmp_path / "x.safetensors", of_one_layer("blocks.1.attn1.to_qkv"))  # fmt: skip
    low = {f"blocks.1.attn1.to_{p}": (down, u) for p, u in zip("qkv", up.chunk(3))}
    want = by_hand(net, low)
    merged(net, tmp_path / "x.safetensors", modules=3)
    assert close(net, want)


def test_a_convolution_takes_a_lora(tmp_path):
    net = network()
    down, up = rand(RANK, 4, 1, 2, 2), rand(24, RANK, 1, 1, 1, seed=2)
    tensors = {"diffusion_model.patch_embedding.lora_down.weight": down, "diffusion_model.patch_embedding.lora_up.weight": up}  # fmt: skip
    save_file(tensors, tmp_path / "x.safetensors")
    before = bits(net)["patch_embedding.weight"]
    merged(net, tmp_path / "x.safetensors")
    change = torch.einsum("or,rcthw->octhw", up[..., 0, 0, 0], down)
    torch.testing.assert_close(net.patch_embedding.weight, before + change)


def test_full_differences_are_added(tmp_path):
    """As ComfyUI's files hold them: of weights, biases, norms and tables that are no weight."""
    net, draw = network(), iter(range(100))
    names = {
        "blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
        "blocks.1.self_attn.norm_k.diff": "blocks.1.attn1.norm_k.weight",
        "blocks.1.cross_attn.norm_k_img.w_norm": "blocks.1.attn2.norm_added_k.weight",
        "blocks.0.norm3.b_norm": "blocks.0.norm2.bias",
        "head.head.diff": "proj_out.weight",
        "blocks.0.modulation.diff": "blocks.0.scale_shift_table",
        "head.modulation.diff": "scale_shift_table",
    }
    want = bits(net)
    tensors = {f"diffusion_model.{old}": rand(*want[new].shape, seed=next(draw)) for old, new in names.items()}
    for old, new in names.items():
        want[new] = want[new] + 0.5 * tensors[f"diffusion_model.{old}"]
    low = pairs(net, ("blocks.0.attn1.to_q",))
    want["blocks.0.attn1.to_q.weight"] = by_hand(net, low, 0.5)["blocks.0.attn1.to_q.weight"]
    tensors |= down_up(low, "diffusion_model.", wan_name)
    save_file(tensors, tmp_path / "x.safetensors", of_one_layer("blocks.0.self_attn.q"))
    into = merged(net, tmp_path / "x.safetensors", 0.5)
    assert close(net, want)
    into.use([])
    assert same(bits(net), bits(network()))


def test_peft_scales_the_bias_of_up(tmp_path):
    net = network()
    low = pairs(net, ("blocks.0.attn1.to_q",))
    bias = rand(24, seed=5)
    tensors = peft_keys(low) | {"base_model.model.blocks.0.attn1.to_q.lora_B.bias": bias}
    save_file(tensors, tmp_path / "x.safetensors", of_one_layer("blocks.0.attn1.to_q"))
    before = net.blocks[0].attn1.to_q.bias.detach().clone()
    merged(net, tmp_path / "x.safetensors")
    torch.testing.assert_close(net.blocks[0].attn1.to_q.bias, before + ALPHA / RANK * bias)


def test_another_family_needs_only_a_key_format(tmp_path):
    net = nn.ModuleDict({"my_layers": nn.ModuleList([nn.ModuleDict({"to_q": nn.Linear(4, 4)})])}).requires_grad_(False)
    down, up = rand(2, 4), rand(4, 2, seed=2)
    key_format = KeyFormat(((r"^old_layers\.(\d+)\.q\.", r"my_layers.\1.to_q."),), ("old_layers",))
    want = net["my_layers"][0]["to_q"].weight + up @ down
    for stem in ("model.old_layers.0.q", "my_layers.0.to_q", "lora_unet_old_layers_0_q", "lora_unet_my_layers_0_to_q"):
        save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, tmp_path / "x.safetensors")
        into = MergedLoras(net)
        into.use([(read(tmp_path / "x.safetensors", net, key_format), 1.0)])
        torch.testing.assert_close(net["my_layers"][0]["to_q"].weight, want)
        into.use([])
    assert module_of("a.b.weight") == "a.b" and load_file(tmp_path / "x.safetensors")
