"""LoRA files that do not fit a network are refused, with the names of the tensors."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from longtake.models.checkpoints.loading import WeightsError
from longtake.models.lora.read import read
from longtake.models.wan.config import tiny
from longtake.models.wan.layout.lora_names import KEY_FORMAT, SVI_TARGETS
from longtake.models.wan.transformer import WanTransformer
from tests.models.lora.helpers import RANK, down_up, flat, network, pairs, peft_keys, svi_keys
from tests.oracles import rand, shuffled


def spoiled(tmp_path, change, make=svi_keys, header=None):
    low = pairs(network())
    save_file(change(make(low)), tmp_path / "x.safetensors", header)
    return tmp_path / "x.safetensors"


def test_the_error_for_another_network_lists_the_keys_of_the_file(tmp_path):
    path = spoiled(tmp_path, lambda t: {k.replace("blocks", "layers"): v for k, v in t.items()})
    with pytest.raises(WeightsError) as error:
        read(path, network(), KEY_FORMAT)
    assert "0 of 20 modules are in WanTransformer; 40 left over: pipe.dit.layers.0.cross_attn.k.lora_A" in str(
        error.value
    )
    assert "and 32 more" in str(error.value)


def test_the_error_for_a_partial_match_lists_the_other_keys(tmp_path):
    path = spoiled(tmp_path, lambda t: {k.replace("blocks.1.ffn", "blocks.7.ffn"): v for k, v in t.items()})
    with pytest.raises(WeightsError) as error:
        read(path, network(), KEY_FORMAT)
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
    "DoRA of another size": (lambda t: t | {f"{NAME}.dora_scale": rand(23)}, r"1 of another shape: blocks.0.attn1.to_q.weight"),
    "DoRA of nothing": (lambda t: t | {"diffusion_model.blocks.0.cross_attn.norm_q.dora_scale": rand(24)}, r"1 incomplete: \S+norm_q.dora_scale"),
    "half a LoKr": (lambda t: t | {"diffusion_model.head.head.lokr_w1": rand(2, 2)}, r"1 incomplete: \S+lokr_w1"),
    "half a LoHa": (lambda t: t | {f"diffusion_model.head.head.hada_w1_{x}": rand(2, 2) for x in "ab"}, r"2 incomplete: \S+hada_w1_a"),
    "two adapters of one module": (lambda t: t | {f"{NAME}.lokr_w1": rand(2, 2), f"{NAME}.lokr_w2": rand(12, 12)}, "4 incomplete"),
    "OFT": (lambda t: t | {f"{NAME}.oft_blocks": rand(2, 2)}, r"1 of a kind that is not read: \S+oft_blocks \(OFT\)"),
    "Tucker": (lambda t: t | {f"{NAME}.hada_t1": rand(2, 2)}, r"hada_t1 \(LoHa of convolutions\)"),
    "replaced": (lambda t: t | {f"{NAME}.set_weight": rand(2, 2)}, r"set_weight \(replaced weights\)"),
    "text encoder": (lambda t: t | {"lora_te1_x.lora_down.weight": rand(2, 2)}, r"1 left over: lora_te1_x"),
    "two adapters": (lambda t: t | {f"{NAME}.lora_A.other.weight": rand(RANK, 24)}, r"1 left over: \S+\.q\.lora_A\."),
    "two spellings": (lambda t: t | {k.replace("pipe.dit.", "diffusion_model."): v.clone() for k, v in t.items() if NAME in k}, r"1 twice: blocks.0.attn1.to_q"),
    "nothing": (lambda t: {"blocks.0.attn1.to_q.weight": rand(24, 24)}, "is no LoRA"),
    "alpha": (lambda t: t | {f"{NAME}.alpha": torch.tensor(float("nan"))}, "self_attn.q.alpha holds NaN or infinity"),
    "whole numbers": (lambda t: t | {k: v.to(torch.int8) for k, v in t.items() if f"{NAME}.lora_B" in k}, r"the \w+ of \S+ is quantised to whole"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_does_not_fit_is_refused_with_the_tensor_named(tmp_path, fault):
    change, words = FAULTS[fault]
    with pytest.raises(WeightsError, match=words):
        read(spoiled(tmp_path, change), network(), KEY_FORMAT)


@pytest.mark.parametrize("make", [svi_keys, lambda low: down_up(low, "lora_unet_", flat)], ids=["svi", "kohya"])
def test_a_lora_of_some_blocks_is_applied_with_a_note(tmp_path, make):
    """As those that leave out the first blocks, or the last: the note names the layers that they leave alone."""
    assert read(spoiled(tmp_path, lambda t: t, make), network(), KEY_FORMAT).notes == ()
    one = spoiled(
        tmp_path, lambda t: {k: v for k, v in t.items() if "blocks.0." not in k and "blocks_0_" not in k}, make
    )
    lora = read(one, network(), KEY_FORMAT)
    assert len(lora.deltas) == 10 and all(name.startswith("blocks.1.") for name in lora.deltas)
    [note] = lora.notes
    assert "leaves 10 layers of the kinds that it changes alone: blocks.0.attn1.to_q" in note
    header = {"lora_adapter_metadata": json.dumps({"target_modules": ["blocks.0.attn1.to_q"]})}
    said = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if "blocks.0.attn1.to_q" in k}, peft_keys, header)
    assert read(said, network(), KEY_FORMAT).lists_targets


PARTS = {  # what does not fit -> the words of the note
    "image keys": (lambda t: t | {f"pipe.dit.blocks.0.cross_attn.k_img.lora_{x}.default.weight": v for x, v in zip("AB", (rand(3, 24), rand(24, 3)))}, r"2 left over: \S+k_img"),
    "shape": (lambda t: t | {f"{NAME}.lora_B.default.weight": rand(23, RANK)}, "1 of another shape: blocks.0.attn1.to_q"),
    "another kind": (lambda t: t | {f"{NAME}.oft_blocks": rand(2, 2)}, r"oft_blocks \(OFT\)"),
    "more blocks": (lambda t: t | {k.replace("blocks.1", "blocks.7"): v.clone() for k, v in t.items() if "blocks.1" in k}, "20 left over"),
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_partial_fit_is_applied_if_asked_for_and_says_what_is_left_out(tmp_path, part):
    change, words = PARTS[part]
    path = spoiled(tmp_path, change)
    text_only = shuffled(WanTransformer(tiny()))
    with pytest.raises(WeightsError, match=rf"{words}.*\(--lora-partial applies what fits\)"):
        read(path, text_only, KEY_FORMAT)
    lora = read(path, text_only, KEY_FORMAT, partial=True)
    assert len(lora.deltas) == 20 - (part == "shape")
    assert re.search(rf"fits WanTransformer in part: it leaves out .*{words}", lora.notes[0])


def test_a_partial_fit_needs_something_that_fits_and_no_damage(tmp_path):
    other = spoiled(tmp_path, lambda t: {k.replace("blocks", "layers"): v for k, v in t.items()})
    with pytest.raises(WeightsError, match="0 of 20 modules are in WanTransformer"):
        read(other, network(), KEY_FORMAT, partial=True)
    half = spoiled(tmp_path, FAULTS["half a pair"][0])
    with pytest.raises(WeightsError, match="1 incomplete"):
        read(half, network(), KEY_FORMAT, partial=True)


def test_a_file_with_another_number_of_modules_is_refused(tmp_path):
    path = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if ".ffn.0." not in k})
    assert len(read(path, network(), KEY_FORMAT).modules) == 18
    with pytest.raises(WeightsError, match="changes 18 modules, not 20"):
        read(path, network(), KEY_FORMAT, modules=20)


@pytest.mark.parametrize("names", ["ours", "original"])
def test_a_target_of_which_a_file_has_nothing_is_refused_unless_asked_for(tmp_path, names):
    targets = list(SVI_TARGETS) if names == "ours" else ["q", "k", "v", "o", "ffn.0", "ffn.2"]
    header = {"lora_adapter_metadata": json.dumps({"r": RANK, "target_modules": targets})}
    make = peft_keys if names == "ours" else svi_keys
    assert read(spoiled(tmp_path, lambda t: t, make, header), network(), KEY_FORMAT).notes == ()
    holed = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if "blocks.1.cross_attn.v" not in k and "blocks.1.attn2.to_v" not in k}, make, header)  # fmt: skip
    assert "leaves 1 layers" in read(holed, network(), KEY_FORMAT).notes[0]
    without = spoiled(tmp_path, lambda t: {k: v for k, v in t.items() if ".ffn." not in k}, make, header)
    with pytest.raises(WeightsError, match=r"was trained on ffn.*--lora-partial"):
        read(without, network(), KEY_FORMAT)
    assert len(read(without, network(), KEY_FORMAT, partial=True).deltas) == 16


@pytest.mark.parametrize(
    ("settings", "words"),
    [("{", "cannot be read"), ("[1]", "cannot be read"), ('{"lora_alpha": "x"}', "cannot be read"),
     ('{"alpha_pattern": {"(": 1}}', "cannot be read"), ('{"use_dora": true}', "use_dora")],
)  # fmt: skip
def test_unusable_peft_settings_are_refused(tmp_path, settings, words):
    path = spoiled(tmp_path, lambda t: t, header={"lora_adapter_metadata": settings})
    with pytest.raises(WeightsError, match=words):
        read(path, network(), KEY_FORMAT)


def test_a_truncated_file_and_a_pickle_are_refused(tmp_path):
    path = spoiled(tmp_path, lambda t: t)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        read(path, network(), KEY_FORMAT)
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(WeightsError, match="pickle"):
        read(tmp_path / "x.pt", network(), KEY_FORMAT)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_lora_with_nan_or_infinity_is_refused_with_file_and_tensor(tmp_path, value):
    def spoil(tensors):
        name = next(name for name in tensors if "lora_B" in name)
        tensors[name][1, 0] = value
        return tensors

    path = spoiled(tmp_path, spoil)
    with pytest.raises(WeightsError, match=rf"{path.name}: the tensor .*lora_B.* holds NaN or infinity"):
        read(path, network(), KEY_FORMAT)
