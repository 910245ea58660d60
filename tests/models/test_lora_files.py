"""LoRA files that we write are read by us, PEFT and diffusers; those that do not fit are refused by name."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from longtake.models import lora, lora_file, wan
from longtake.models.lora_file import Lora, Low
from longtake.models.lora_keys import Spelling, module_of
from longtake.models.wan_lora import SPELLING, SVI_TARGETS
from longtake.models.weights import WeightsError
from tests.models.oracles import oracle, rand
from tests.models.test_lora import (
    ALPHA,
    RANK,
    bits,
    close,
    down_up,
    flat,
    loras,
    merged,
    network,
    pairs,
    peft_keys,
    same,
    svi_keys,
)


# ---------------------------------------------------------------- written and read again
def trained(seed: int = 0) -> wan.WanTransformer:
    net = network()
    lora.inject(net, RANK, ALPHA, SVI_TARGETS)
    with torch.no_grad():
        for i, part in enumerate(lora.apart(net).values()):
            part.up["default"].copy_(rand(*part.up["default"].shape, seed=seed + i) / 9)
    return net


@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_what_is_written_is_read_again(tmp_path, name):
    net = trained()
    lora.save(net, tmp_path / name)
    have, want = lora_file.read(tmp_path / name, network(), SPELLING, modules=20), lora.collect(net)
    assert have.low.keys() == want.low.keys()
    for key in want.low:
        assert torch.equal(have.low[key].up, want.low[key].up) and torch.equal(have.low[key].down, want.low[key].down)
        assert have.low[key].scale == want.low[key].scale == 2.0
    assert not list(tmp_path.rglob("*.partial"))


def test_ranks_and_alphas_that_differ_are_written(tmp_path):
    low = {f"blocks.{i}.attn1.to_q.weight": Low(rand(2 + i, 24), rand(24, 2 + i), 1.5 + i) for i in range(2)}
    for name in ("folder", "file.safetensors"):
        lora_file.write(Lora("x", low), tmp_path / name)
        again = lora_file.read(tmp_path / name, network(), SPELLING)
        assert {k: (v.rank, v.scale) for k, v in again.low.items()} == {k: (v.rank, v.scale) for k, v in low.items()}


def test_peft_reads_what_we_write(tmp_path):
    peft = pytest.importorskip("peft")
    lora.save(trained(), tmp_path / "peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = bits(peft.PeftModel.from_pretrained(network(), tmp_path / "peft").merge_and_unload())
    net = network()
    merged(net, tmp_path / "peft")
    assert not same(theirs, bits(network()))
    assert close(net, theirs)


def test_diffusers_reads_what_we_write_and_we_what_it_writes(tmp_path):
    pytest.importorskip("peft")
    net = trained()
    lora.save(net, tmp_path / "ours.safetensors")
    kind = oracle("diffusers", "WanTransformer3DModel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = dict(num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=10)
        settings |= dict(freq_dim=16, ffn_dim=40, num_layers=2, image_dim=14, added_kv_proj_dim=24)
        theirs = kind(**settings)
        theirs.load_state_dict(network().state_dict())
        theirs.load_lora_adapter(tmp_path, weight_name="ours.safetensors", prefix="transformer")
        theirs.save_lora_adapter(tmp_path / "theirs", adapter_name="default_0")
        theirs.fuse_lora()
        theirs.unload_lora()
    for path in (tmp_path / "ours.safetensors", tmp_path / "theirs"):
        plain = network()
        merged(plain, path, modules=20)
        assert not same(bits(theirs), bits(network()))
        assert close(plain, bits(theirs))


# ---------------------------------------------------------------- refused
def spoiled(tmp_path, change, make=svi_keys, header=None):
    low = pairs(network())
    save_file(change(make(low)), tmp_path / "x.safetensors", header)
    return tmp_path / "x.safetensors"


def test_a_file_for_another_network_shows_its_keys(tmp_path):
    path = spoiled(tmp_path, lambda t: {k.replace("blocks", "layers"): v for k, v in t.items()})
    with pytest.raises(WeightsError) as error:
        lora_file.read(path, network(), SPELLING)
    assert "0 of 20 modules are in WanTransformer; 40 left over: pipe.dit.layers.0.cross_attn.k.lora_A" in str(
        error.value
    )
    assert "and 32 more" in str(error.value)


def test_a_file_of_which_some_modules_fit_shows_the_others(tmp_path):
    path = spoiled(tmp_path, lambda t: {k.replace("blocks.1.ffn", "blocks.7.ffn"): v for k, v in t.items()})
    with pytest.raises(WeightsError) as error:
        lora_file.read(path, network(), SPELLING)
    assert "18 of 20 modules are in WanTransformer; 4 left over: pipe.dit.blocks.7.ffn.0.lora_A" in str(error.value)


NAME = "pipe.dit.blocks.0.self_attn.q"
FAULTS = {
    "half a pair": (lambda t: {k: v for k, v in t.items() if k != f"{NAME}.lora_B.default.weight"}, rf"1 incomplete: {NAME}.lora_A"),
    "a lone alpha": (lambda t: t | {"diffusion_model.blocks.0.cross_attn.norm_q.alpha": torch.ones(())}, r"1 incomplete: \S+norm_q.alpha"),
    "a lone bias of up": (
        lambda t: t
        | {f"blocks.0.attn2.norm_q.{k}": rand(24) for k in ("diff", "lora_B.bias")},
        r"2 incomplete: \S+norm_q.diff",
    ),
    "shape": (lambda t: t | {f"{NAME}.lora_B.default.weight": rand(23, RANK)}, r"blocks.0.attn1.to_q.weight is \(24, 24\), which \(23, 3\) x \(3, 24\) does not change"),
    "ranks": (lambda t: t | {f"{NAME}.lora_B.default.weight": rand(24, 4)}, r"1 of another shape"),
    "whole shape": (lambda t: t | {f"{NAME}.diff_b": rand(3)}, r"blocks.0.attn1.to_q.bias is \(24,\), not \(3,\)"),
    "no such bias": (lambda t: t | {"diffusion_model.blocks.0.self_attn.norm_q.diff_b": rand(24)}, r"1 left over: blocks.0.attn1.norm_q.bias"),
    "DoRA": (lambda t: t | {f"{NAME}.dora_scale": rand(24)}, rf"1 left over: {NAME}.dora_scale"),
    "LoKr": (lambda t: t | {f"{NAME}.lokr_w1": rand(2, 2)}, r"1 left over: \S+lokr_w1"),
    "text encoder": (lambda t: t | {"lora_te1_x.lora_down.weight": rand(2, 2)}, r"1 left over: lora_te1_x"),
    "two adapters": (lambda t: t | {f"{NAME}.lora_A.other.weight": rand(RANK, 24)}, r"1 left over: \S+\.q\.lora_A\."),
    "two spellings": (lambda t: t | {k.replace("pipe.dit.", "diffusion_model."): v.clone() for k, v in t.items() if NAME in k}, r"1 twice: blocks.0.attn1.to_q"),
    "nothing": (lambda t: {"blocks.0.attn1.to_q.weight": rand(24, 24)}, "is no LoRA"),
    "alpha": (lambda t: t | {f"{NAME}.alpha": torch.tensor(float("nan"))}, "alpha of pipe.dit.blocks.0.self_attn.q is nan"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_do_not_fit_are_refused_by_name(tmp_path, fault):
    change, words = FAULTS[fault]
    with pytest.raises(WeightsError, match=words):
        lora_file.read(spoiled(tmp_path, change), network(), SPELLING)


@pytest.mark.parametrize("make", [svi_keys, lambda low: down_up(low, "lora_unet_", flat)], ids=["svi", "kohya"])
def test_without_settings_every_kind_of_module_must_be_there_in_every_layer(tmp_path, make):
    lora_file.read(spoiled(tmp_path, lambda t: t, make), network(), SPELLING)
    one = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if "blocks.0.self_attn.q" in k or "blocks_0_attn1_to_q" in k}, make)  # fmt: skip
    with pytest.raises(WeightsError, match=r"lacks 1 of the modules .*: blocks.1.attn1.to_q: .* it has \S+blocks.0.*q"):
        lora_file.read(one, network(), SPELLING)
    header = {"lora_adapter_metadata": json.dumps({"target_modules": ["blocks.0.attn1.to_q"]})}
    said = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if "blocks.0.attn1.to_q" in k}, peft_keys, header)
    assert lora_file.read(said, network(), SPELLING).told


def test_the_number_of_modules_is_asserted(tmp_path):
    path = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if ".ffn.0." not in k})
    assert len(lora_file.read(path, network(), SPELLING).modules) == 18
    with pytest.raises(WeightsError, match="changes 18 modules, not 20"):
        lora_file.read(path, network(), SPELLING, modules=20)


@pytest.mark.parametrize("names", ["ours", "original"])
def test_modules_that_the_settings_promise_must_be_there(tmp_path, names):
    targets = list(SVI_TARGETS) if names == "ours" else ["q", "k", "v", "o", "ffn.0", "ffn.2"]
    header = {"lora_adapter_metadata": json.dumps({"r": RANK, "target_modules": targets})}
    make = peft_keys if names == "ours" else svi_keys
    lora_file.read(spoiled(tmp_path, lambda t: t, make, header), network(), SPELLING)
    holed = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if "blocks.1.cross_attn.v" not in k and "blocks.1.attn2.to_v" not in k}, make, header)  # fmt: skip
    with pytest.raises(WeightsError, match=r"lacks 1 of the modules that it was trained on: blocks.1.attn2.to_v"):
        lora_file.read(holed, network(), SPELLING)
    without = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if ".ffn." not in k}, make, header)
    with pytest.raises(WeightsError, match="was trained on ffn"):
        lora_file.read(without, network(), SPELLING)


@pytest.mark.parametrize(
    ("told", "words"),
    [("{", "cannot be read"), ("[1]", "cannot be read"), ('{"lora_alpha": "x"}', "cannot be read"),
     ('{"alpha_pattern": {"(": 1}}', "cannot be read"), ('{"use_dora": true}', "use_dora")],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused(tmp_path, told, words):
    path = spoiled(tmp_path, lambda t: t, header={"lora_adapter_metadata": told})
    with pytest.raises(WeightsError, match=words):
        lora_file.read(path, network(), SPELLING)


def test_a_cut_file_and_a_pickle_are_refused(tmp_path):
    path = spoiled(tmp_path, lambda t: t)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        lora_file.read(path, network(), SPELLING)
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(WeightsError, match="pickle"):
        lora_file.read(tmp_path / "x.pt", network(), SPELLING)


def test_what_cannot_be_done_is_said():
    net = network()
    whole = Lora("w", {}, {"blocks.0.attn1.to_q.bias": torch.zeros(24)})
    with pytest.raises(WeightsError, match="merged, but not kept apart"):
        lora.keep_apart(net, whole)
    with pytest.raises(WeightsError, match="PEFT files cannot hold"):
        lora_file.write(whole, "x.safetensors")
    with pytest.raises(ValueError, match=r"no linear layer's name ends with to_z: they end with .*to_q"):
        lora.inject(net, 4, 4.0, ("to_q", "to_z"))
    with pytest.raises(ValueError, match="at least 1"):
        lora.inject(net, 0, 4.0, ("to_q",))
    with pytest.raises(WeightsError, match="no LoRA 'default' is kept apart"):
        lora.collect(net)
    given = loras(net)[0]
    lora.inject(net, 4, 4.0, ("to_q",))
    with pytest.raises(WeightsError, match="take away what is kept apart first"):
        lora.Merged(net).use([(given, 1.0)])


def test_another_family_only_needs_a_spelling(tmp_path):
    net = nn.ModuleDict({"my_layers": nn.ModuleList([nn.ModuleDict({"to_q": nn.Linear(4, 4)})])}).requires_grad_(False)
    down, up = rand(2, 4), rand(4, 2, seed=2)
    spelling = Spelling(((r"^old_layers\.(\d+)\.q\.", r"my_layers.\1.to_q."),), ("old_layers",))
    want = net["my_layers"][0]["to_q"].weight + up @ down
    for stem in ("model.old_layers.0.q", "my_layers.0.to_q", "lora_unet_old_layers_0_q", "lora_unet_my_layers_0_to_q"):
        save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, tmp_path / "x.safetensors")
        into = lora.Merged(net)
        into.use([(lora_file.read(tmp_path / "x.safetensors", net, spelling), 1.0)])
        torch.testing.assert_close(net["my_layers"][0]["to_q"].weight, want)
        into.use([])
    assert module_of("a.b.weight") == "a.b" and load_file(tmp_path / "x.safetensors")
