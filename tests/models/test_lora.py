"""LoRA: every layout of file gives the same weights as PEFT, is undone bit for bit, and is refused if it does not fit."""

from __future__ import annotations

import json
import warnings
from itertools import permutations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from longtake.models import lora, lora_file, wan, weights
from longtake.models.lora_file import Lora, Low
from longtake.models.wan_lora import SPELLING, SVI_TARGETS
from longtake.models.weights import WeightsError
from tests.models.oracles import rand, shuffled
from tests.models.test_weights import original_wan_name

RANK, ALPHA = 3, 6.0
MORE = ("add_k_proj", "add_v_proj", "time_proj", "text_embedder.linear_1", "image_embedder.ff.net.0.proj", "proj_out")


def network(dtype: torch.dtype = torch.float32) -> wan.WanTransformer:
    """An image-to-video network: the one with the most kinds of modules."""
    torch.manual_seed(0)
    net = wan.WanTransformer(wan.tiny(image_dim=14, added_kv_proj_dim=24))
    return shuffled(net).to(dtype)


def bits(net: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Equal to the last bit, in the same dtype."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def matched(net: nn.Module, targets=SVI_TARGETS) -> list[str]:
    """Linear layers whose name ends with a target."""
    names = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    return [name for name in names if any(name.endswith(f".{t}") or name == t for t in targets)]


def pairs(net: nn.Module, targets=SVI_TARGETS, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random down and up of each of these modules."""
    found = {}
    for i, name in enumerate(matched(net, targets)):
        out, inner = net.get_submodule(name).weight.shape
        found[name] = (rand(RANK, inner, seed=1000 * seed + 2 * i), rand(out, RANK, seed=1000 * seed + 2 * i + 1) / 9)
    return found


def by_hand(net: nn.Module, low: dict, strength: float = 1.0, scale: float = ALPHA / RANK) -> dict[str, torch.Tensor]:
    """W + strength * alpha / rank * up @ down, in float64."""
    weights_ = bits(net)
    for name, (down, up) in low.items():
        weight = weights_[f"{name}.weight"]
        weights_[f"{name}.weight"] = weight.double() + strength * scale * (up.double() @ down.double())
    return weights_


def close(net: nn.Module, want: dict[str, torch.Tensor], tolerance: float = 1e-6) -> bool:
    """Whether every weight is the wanted one, to a part of its largest value."""
    have = bits(net)
    assert have.keys() == want.keys()
    return all((have[k].double() - want[k].double()).abs().max() <= tolerance * want[k].abs().max() for k in have)


def merged(net: nn.Module, path, strength: float = 1.0, **options) -> lora.Merged:
    """The network with the LoRA of a file."""
    into = lora.Merged(net)
    into.use([(lora_file.read(path, net, SPELLING, **options), strength)])
    return into


# ---------------------------------------------------------------- layouts
def peft_keys(low):
    return {
        f"base_model.model.{name}.lora_{side}.weight": t for name, ab in low.items() for side, t in zip("AB", ab)
    }  # fmt: skip


def svi_keys(low):
    return {
        f"pipe.dit.{original_wan_name(name)}.lora_{side}.default.weight": t
        for name, ab in low.items() for side, t in zip("AB", ab)
    }  # fmt: skip


def down_up(low, prefix, name_of):
    tensors = {}
    for name, (down, up) in low.items():
        stem = prefix + name_of(name)
        tensors |= {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(ALPHA),
        }
    return tensors


def flat(name):
    return name.replace(".", "_")


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
    "comfy": (lambda low: down_up(low, "diffusion_model.", original_wan_name), None, True),
    "comfy, PEFT pairs": (
        lambda low: {k.replace("pipe.dit", "diffusion_model").replace(".default", ""): v for k, v in svi_keys(low).items()},
        None, False,
    ),
    "kohya": (lambda low: down_up(low, "lora_unet_", lambda name: flat(original_wan_name(name))), None, True),
    "kohya, diffusers names": (lambda low: down_up(low, "lora_unet_", flat), None, True),
    "svi": (svi_keys, None, False),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("targets", [SVI_TARGETS, SVI_TARGETS + MORE], ids=["svi", "more"])
def test_every_layout_gives_the_formula(tmp_path, layout, targets):
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


def of_one_layer(module):
    """The settings of a file that was trained on one module alone."""
    return {"lora_adapter_metadata": json.dumps({"lora_alpha": ALPHA, "target_modules": [module]})}


def test_fused_modules_are_taken_apart(tmp_path):
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


def test_whole_differences_are_added(tmp_path):
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
    tensors |= down_up(low, "diffusion_model.", original_wan_name)
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


# ---------------------------------------------------------------- merged and undone
def loras(net, count: int = 3) -> list[Lora]:
    """Several LoRAs, on modules that overlap in part."""
    choice = [SVI_TARGETS, ("to_q", "proj_out"), ("ffn.net.2", "to_q")]
    return [
        Lora(f"l{i}", {f"{n}.weight": Low(a, b, 2.0) for n, (a, b) in pairs(net, choice[i], seed=i).items()})
        for i in range(count)
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_weights_come_back_bit_for_bit(dtype):
    net = network(dtype)
    before, into = bits(net), lora.Merged(net)
    a, b, c = loras(net)
    seen = []
    for chosen in ([(a, 0.8)], [(a, 0.8), (b, -0.5)], [(c, 1.5)], [(b, 1.0), (c, 0.1)], [(a, 0.8)]):
        into.use(chosen)
        assert not same(bits(net), before)
        assert {p.dtype for p in net.parameters()} == {dtype}
        assert {*into.originals} == {name for one, _ in chosen for name in one.low}  # nothing else is kept
        seen.append(bits(net))
    assert same(seen[0], seen[-1])  # what was merged before leaves no trace
    into.use([])
    assert same(bits(net), before) and not into.originals


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_order_of_loras_does_not_matter(dtype):
    results = []
    for order in permutations(range(3)):
        net = network(dtype)
        into, given = lora.Merged(net), loras(net)
        for i in range(1, 4):
            into.use([(given[k], 0.3 + k) for k in order[:i]])
        results.append(bits(net))
    assert all(same(results[0], other) for other in results[1:])


def test_bfloat16_weights_are_rounded_once():
    net = network(torch.bfloat16)
    low = pairs(net)
    want = {name: w.to(torch.bfloat16) for name, w in by_hand(net, low, 0.9, 2.0).items()}
    lora.Merged(net).use([(Lora("x", {f"{n}.weight": Low(a, b, 2.0) for n, (a, b) in low.items()}), 0.9)])
    have = bits(net)
    off = sum((have[k] != want[k]).sum() for k in have) / sum(w.numel() for w in have.values())
    assert off < 1e-3  # only where float32 falls on the other side of a tie


def test_merging_in_inference_leaves_weights_that_can_be_trained():
    net = network()
    with torch.inference_mode():
        lora.Merged(net).use([(loras(net)[0], 1.0)])
    net.requires_grad_(True)
    net(rand(1, 4, 2, 4, 4), torch.tensor(0.5), rand(1, 3, 10)).sum().backward()
    assert net.blocks[0].attn1.to_q.weight.grad.norm() > 0


def test_the_checkpoint_file_is_never_written_to(tmp_path):
    weights.save(network(), network().config, tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    before = file.read_bytes()
    net = wan.load(tmp_path)
    pointers = {name: p.data_ptr() for name, p in net.named_parameters()}
    into = lora.Merged(net)
    into.use([(loras(net)[0], 1.0)])
    assert file.read_bytes() == before
    into.use([])
    assert pointers == {name: p.data_ptr() for name, p in net.named_parameters()}  # on a CPU nothing is copied


# ---------------------------------------------------------------- kept apart
def call(net, **options):
    return net(rand(1, 4, 2, 4, 4), torch.tensor([0.2, 0.9]), rand(1, 3, 10), **options)


def test_kept_apart_equals_merged():
    """Also for modules whose weight the network uses itself (time_proj, patch_embedding), several at once."""
    targets = (*SVI_TARGETS, "time_proj", "text_embedder.linear_1", "proj_out")
    with torch.no_grad():
        net, other = network(), network()
        given = [
            Lora(f"l{i}", {f"{n}.weight": Low(a, b, 2.0) for n, (a, b) in pairs(net, targets, seed=i).items()})
            for i in range(2)
        ]
        patch = Low(rand(RANK, 4, 1, 2, 2), rand(24, RANK, 1, 1, 1) / 9, 0.5)
        given[0].low["patch_embedding.weight"] = patch
        plain = call(net)
        lora.Merged(net).use([(given[0], 0.7), (given[1], -0.4)])
        names = lora.keep_apart(other, given[0], 0.7, "one")
        lora.keep_apart(other, given[1], -0.4, "two")
        assert len(names) == len(given[0].low) == len(lora.apart(other))
        a, b = call(net), call(other)
        assert (a - plain).abs().max() > 0.05
        assert (a - b).abs().max() <= 1e-6 * a.abs().max()
        lora.take_away(other)
        assert torch.equal(call(other), plain) and same(bits(other), bits(network()))


def test_a_convolution_kept_apart_also_works_when_called():
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1)).requires_grad_(False)
    low = Low(rand(2, 3, 3, 3), rand(5, 2, 1, 1), 0.5)
    x, merged_ = rand(1, 3, 6, 6), nn.Sequential(nn.Conv2d(3, 5, 3, padding=1)).requires_grad_(False)
    merged_.load_state_dict(net.state_dict())
    lora.Merged(merged_).use([(Lora("x", {"0.weight": low}), 1.0)])
    lora.keep_apart(net, Lora("x", {"0.weight": low}))
    torch.testing.assert_close(net(x), merged_(x))


def test_a_new_lora_changes_nothing_and_learns_alone():
    net = network().requires_grad_(True)
    with torch.no_grad():
        before = call(net)
    names = lora.inject(net, 4, 8.0, SVI_TARGETS)
    assert names == matched(network())
    with torch.no_grad():
        assert torch.equal(call(net), before)
    for checkpointing in (False, True):
        net.checkpointing = checkpointing
        net.zero_grad()
        call(net).square().sum().backward()
        graded = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.norm() > 0}
        assert graded == {f"{name}.up.default" for name in names}  # down has no gradient while up is 0
    trainable = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trainable == {f"{name}.{side}.default" for name in names for side in ("down", "up")}


def test_training_a_lora_moves_only_the_lora(tmp_path):
    net = network()
    before = bits(net)
    lora.inject(net, 4, 8.0, SVI_TARGETS)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.05)
    losses = []
    for _ in range(4):
        loss = (call(net) - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    with torch.no_grad():
        trained = call(net)
        lora.save(net, tmp_path / "t.safetensors")
        lora.take_away(net)
        assert same(bits(net), before)
        merged(net, tmp_path / "t.safetensors", modules=20)
        assert (call(net) - trained).abs().max() <= 2e-6 * trained.abs().max()


def test_the_same_seed_gives_the_same_lora():
    nets = [network() for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2)):
        lora.inject(net, 4, 4.0, ("to_q",), seed=seed)
    assert same(bits(nets[0]), bits(nets[1])) and not same(bits(nets[0]), bits(nets[2]))


def test_a_second_lora_goes_beside_the_first():
    net = network()
    lora.inject(net, 2, 2.0, ("to_q",), name="a")
    lora.inject(net, 3, 3.0, ("to_q", "to_k"), name="b")
    assert {len(lora.collect(net, name).low) for name in "ab"} == {4, 8}
    with pytest.raises(WeightsError, match="has one of that name already"):
        lora.inject(net, 2, 2.0, ("to_k",), name="b")


def test_svi_trains_400_modules_of_the_network_of_14b():
    config = wan.WanConfig(
        in_channels=36, num_attention_heads=40, num_layers=40, ffn_dim=13824, image_dim=1280, added_kv_proj_dim=5120
    )
    with torch.device("meta"):
        net = wan.WanTransformer(config)
    assert len(lora.inject(net, 128, 128.0, SVI_TARGETS)) == 400
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 613_416_960
