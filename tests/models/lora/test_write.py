"""LoRA files that longtake writes are read by longtake, PEFT and diffusers."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import load_file

from longtake.models.lora.delta import Lora, LoraDelta
from longtake.models.lora.layers import collect, inject, lora_layers, save
from longtake.models.lora.read import read
from longtake.models.lora.write import write
from longtake.models.wan import transformer as wan
from longtake.models.wan.layout.lora_names import KEY_FORMAT, SVI_TARGETS
from tests.models.lora.helpers import ALPHA, RANK, bits, close, merged, network, same
from tests.oracles import oracle, rand


def trained(seed: int = 0) -> wan.WanTransformer:
    net = network()
    inject(net, RANK, ALPHA, SVI_TARGETS)
    with torch.no_grad():
        for i, part in enumerate(lora_layers(net).values()):
            part.up["default"].copy_(rand(*part.up["default"].shape, seed=seed + i) / 9)
    return net


@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_a_written_lora_is_read_with_equal_values(tmp_path, name):
    net = trained()
    save(net, tmp_path / name)
    have, want = read(tmp_path / name, network(), KEY_FORMAT, modules=20), collect(net)
    assert have.deltas.keys() == want.deltas.keys()
    for key, delta in want.deltas.items():
        assert torch.equal(have.deltas[key].up, delta.scale * delta.up)
        assert torch.equal(have.deltas[key].down, delta.down)
        assert (have.deltas[key].scale, delta.scale) == (1.0, 2.0)
    assert not list(tmp_path.rglob("*.partial"))


def test_ranks_and_alphas_that_differ_are_written(tmp_path):
    low = {f"blocks.{i}.attn1.to_q.weight": LoraDelta(rand(2 + i, 24), rand(24, 2 + i), 1.5 + i) for i in range(2)}
    for name in ("folder", "file.safetensors"):
        write(Lora("x", low), tmp_path / name)
        again = read(tmp_path / name, network(), KEY_FORMAT)
        assert {k: (v.rank, v.scale) for k, v in again.deltas.items()} == {k: (v.rank, 1.0) for k, v in low.items()}
        like = torch.zeros(24, 24)
        assert all(torch.allclose(again.deltas[k].delta(like), v.delta(like), atol=1e-6) for k, v in low.items())


@pytest.mark.parametrize("name", ["folder/adapter_model.safetensors", "file.safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_readers_that_know_no_alpha_apply_it_as_it_was_trained(tmp_path, name, dtype):
    """ComfyUI and kohya look for alpha in tensors of their own and else take the rank, so scale must be 1 without them."""
    low = LoraDelta(rand(RANK, 24).to(dtype), rand(24, RANK, seed=2).to(dtype), 1.7)
    write(Lora("x", {"blocks.0.attn1.to_q.weight": low}), tmp_path / name.split("/")[0])
    tensors = load_file(tmp_path / name)
    [up], [down] = ([t.float() for k, t in tensors.items() if f"lora_{side}" in k] for side in "BA")
    torch.testing.assert_close(up @ down, 1.7 * (low.up.float() @ low.down.float()), rtol=1e-5, atol=1e-5)


def test_peft_reads_what_we_write(tmp_path):
    peft = pytest.importorskip("peft")
    save(trained(), tmp_path / "peft")
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
    save(net, tmp_path / "ours.safetensors")
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
