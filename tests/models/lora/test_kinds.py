"""LoRAs that are more than two factors, and other names of files: each gives the weights of its formula, in every layout."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import save_file

from longtake.core.errors import ScriptError
from longtake.models import load
from longtake.models.lora.merge import MergedLoras
from longtake.models.lora.read import read
from longtake.models.ltx.layout.lora_names import KEY_FORMAT as LTX_FORMAT
from longtake.models.ltx.transformer import load as load_ltx
from longtake.models.wan.layout.lora_names import KEY_FORMAT
from longtake.pipelines.settings import loras as lora_files
from longtake.planning.script import Scene, Script
from tests import released
from tests.checkpoints import random_ltx, random_wan
from tests.models.lora.helpers import ALPHA, RANK, bits, close, down_up, flat, merged, network, pairs, same
from tests.oracles import rand
from tests.released import wan_name

MODULE, NAME = "blocks.1.attn1.to_q", "blocks.1.attn1.to_q.weight"


# ---------------------------------------------------------------- DoRA, LoHa, LoKr, number by number
def plain(w, t):
    """Return the change of a LoRA, number by number."""
    rows, columns, rank = len(w), len(w[0]), len(t["lora_down.weight"])
    up, down = t["lora_up.weight"], t["lora_down.weight"]
    return [
        [sum(up[i][r] * down[r][j] for r in range(rank)) * ALPHA / rank for j in range(columns)] for i in range(rows)
    ]


def dora(w, t):
    """Return the change of a DoRA whose norms are those of rows."""
    change, rows = plain(w, t), []
    for i, row in enumerate(w):
        new = [a + b for a, b in zip(row, change[i])]
        norm = sum(x * x for x in new) ** 0.5
        rows.append([x / norm * t["dora_scale"][i][0] - a for x, a in zip(new, row)])
    return rows


def dora_columns(w, t):
    """Return the change of a DoRA whose norms are those of columns."""
    change = plain(w, t)
    new = [[a + b for a, b in zip(row, more)] for row, more in zip(w, change)]
    norms = [sum(row[j] ** 2 for row in new) ** 0.5 for j in range(len(w[0]))]
    return [[x / norms[j] * t["dora_scale"][0][j] - w[i][j] for j, x in enumerate(row)] for i, row in enumerate(new)]


def product(a, b):
    return [[sum(x * b[r][j] for r, x in enumerate(row)) for j in range(len(b[0]))] for row in a]


def loha(w, t):
    one, two = product(t["hada_w1_a"], t["hada_w1_b"]), product(t["hada_w2_a"], t["hada_w2_b"])
    return [[x * y * ALPHA / RANK for x, y in zip(a, b)] for a, b in zip(one, two)]


def lokr(w, t):
    first = t["lokr_w1"] if "lokr_w1" in t else product(t["lokr_w1_a"], t["lokr_w1_b"])
    second = t["lokr_w2"] if "lokr_w2" in t else product(t["lokr_w2_a"], t["lokr_w2_b"])
    scale = 1.0 if "lokr_w1" in t and "lokr_w2" in t else ALPHA / RANK
    rows, columns = len(second), len(second[0])
    return [
        [scale * first[i // rows][j // columns] * second[i % rows][j % columns] for j in range(len(w[0]))]
        for i in range(len(w))
    ]


LOW = {"lora_down.weight": rand(RANK, 24), "lora_up.weight": rand(24, RANK, seed=2)}
ADAPTERS = {  # name -> tensors of one module, and the change by its formula
    "DoRA": (LOW | {"dora_scale": rand(24, 1, seed=3).abs() + 1}, dora),
    "DoRA of columns": (LOW | {"dora_scale": rand(1, 24, seed=3).abs() + 1}, dora_columns),
    "LoHa": (
        {f"hada_w{n}_{x}": rand(*((24, RANK) if x == "a" else (RANK, 24)), seed=n) for n in (1, 2) for x in "ab"}, loha,
    ),
    "LoKr": ({"lokr_w1": rand(4, 6), "lokr_w2": rand(6, 4, seed=2)}, lokr),
    "LoKr, one factored": ({"lokr_w1": rand(4, 6), "lokr_w2_a": rand(6, RANK), "lokr_w2_b": rand(RANK, 4)}, lokr),
    "LoKr, both factored": (
        {"lokr_w1_a": rand(4, RANK), "lokr_w1_b": rand(RANK, 6), "lokr_w2_a": rand(6, RANK), "lokr_w2_b": rand(RANK, 4)},
        lokr,
    ),
}  # fmt: skip
STEMS = (
    f"diffusion_model.{wan_name(MODULE)}",
    f"lycoris_{flat(MODULE)}",
    f"lora_unet__{flat(wan_name(MODULE))}",
)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_every_kind_of_adapter_is_its_formula(tmp_path, adapter, strength):
    tensors, formula = ADAPTERS[adapter]
    net = network()
    change = formula(net.state_dict()[NAME].double().tolist(), {k: v.double().tolist() for k, v in tensors.items()})
    want = bits(net)
    want[NAME] = want[NAME].double() + strength * torch.tensor(change)
    for stem in STEMS:
        file = {f"{stem}.{key}": one for key, one in tensors.items()} | {f"{stem}.alpha": torch.tensor(ALPHA)}
        save_file(file, tmp_path / "x.safetensors")
        into = merged(net, tmp_path / "x.safetensors", strength)
        assert close(net, want, 1e-5)
        into.use([])
        assert same(bits(net), bits(network()))


@pytest.mark.parametrize("adapter", ["DoRA", "LoHa", "LoKr, one factored"])
def test_adapters_change_float8_matrices_too(tmp_path, adapter):
    """A float8 matrix gets its adapters whenever it is dequantised, and DoRA then sees the matrix itself."""
    tensors, formula = ADAPTERS[adapter]
    file = tmp_path / "x.safetensors"
    stem = STEMS[0]
    save_file({f"{stem}.{k}": v for k, v in tensors.items()} | {f"{stem}.alpha": torch.tensor(ALPHA)}, file)
    model = load(random_wan(tmp_path / "m"), fp8=True, offload="blocks")
    net = released.session(model).net
    stored = net.blocks.fp8[1]["attn1.to_q.weight"]
    weight = net.blocks.blocks[1].attn1.to_q.weight.float() * stored.scale
    model.features.lora.use(((str(file), 0.6),))
    change = formula(weight.double().tolist(), {k: v.double().tolist() for k, v in tensors.items()})
    for block in net.blocks:
        have = block.attn1.to_q.weight.clone()
    torch.testing.assert_close(have.double(), weight.double() + 0.6 * torch.tensor(change), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["dora", "loha", "lokr"])
def test_adapters_equal_those_that_peft_merges(tmp_path, kind):
    peft = pytest.importorskip("peft")
    net = network()
    make = {
        "dora": lambda: peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["to_q", "ffn.net.2"], use_dora=True),
        "loha": lambda: peft.LoHaConfig(r=RANK, alpha=ALPHA, target_modules=["to_q", "ffn.net.2"]),
        "lokr": lambda: peft.LoKrConfig(r=RANK, alpha=ALPHA, target_modules=["to_q", "ffn.net.2"]),
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(network(), make())
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if any(sign in name for sign in ("lora_", "hada_", "lokr_")):
                weight.data = weight.data + torch.randn_like(weight.data) / 9
        model.save_pretrained(tmp_path / "peft")
        want = bits(model.merge_and_unload())
    lora = read(tmp_path / "peft", net, KEY_FORMAT)
    MergedLoras(net).use([(lora, 1.0)])
    assert not same(bits(net), bits(network())) and close(net, want, 1e-5)


def test_a_fused_module_of_dora_changes_each_of_its_parts(tmp_path):
    net = network()
    down, up, norms = rand(RANK, 24), rand(72, RANK, seed=2), rand(72, seed=4).abs() + 1
    stem = "transformer.blocks.1.attn1.to_qkv"
    tensors = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up, f"{stem}.lora_magnitude_vector": norms}
    save_file(tensors, tmp_path / "x.safetensors")
    want = bits(net)
    for letter, part, norm in zip("qkv", up.chunk(3), norms.chunk(3)):
        name = f"blocks.1.attn1.to_{letter}.weight"
        new = want[name].double() + part.double() @ down.double()
        want[name] = new / new.norm(dim=1, keepdim=True) * norm[:, None]
    merged(net, tmp_path / "x.safetensors")
    assert close(net, want, 1e-5)


# ---------------------------------------------------------------- names of files
@pytest.mark.parametrize(
    "prefix", ["diffusion_model.", "", "model.diffusion_model.", "lora_unet_", "lora_unet__", "_orig_mod."]
)
def test_differences_of_modulation_tables_are_added(tmp_path, prefix):
    """`blocks.N.diff_m` and `head.diff_m`, as in the step-distillation LoRAs most used with Wan."""
    net = network()
    names = {
        "blocks.0": "blocks.0.scale_shift_table",
        "blocks.1": "blocks.1.scale_shift_table",
        "head": "scale_shift_table",
    }
    spelt = {name: flat(name) if prefix.startswith("lora_unet") else name for name in names}
    want, tensors = bits(net), {}
    for number, (old, new) in enumerate(names.items()):
        tensors[f"{prefix}{spelt[old]}.diff_m"] = rand(*want[new].shape, seed=number)
        want[new] = want[new] + 0.5 * rand(*want[new].shape, seed=number)
    save_file(tensors, tmp_path / "x.safetensors")
    merged(net, tmp_path / "x.safetensors", 0.5)
    assert close(net, want)


@pytest.mark.parametrize("prefix", ["lora_unet__", "lora_unet_", "lora_transformer__", "lora_transformer_"])
def test_two_underscores_after_the_prefix_are_read(tmp_path, prefix):
    net = network()
    low = pairs(net)
    save_file(down_up(low, prefix, lambda name: flat(wan_name(name))), tmp_path / "x.safetensors")
    assert len(read(tmp_path / "x.safetensors", net, KEY_FORMAT).deltas) == len(low)


def ltx_network(tmp_path):
    folder = random_ltx(tmp_path / "m")
    return folder, load_ltx(folder / "transformer")


def old_ltx_name(name):
    """Return the official name of an LTX module."""
    for ours, theirs in (("proj_in", "patchify_proj"), ("time_embed", "adaln_single")):
        if name == ours or name.startswith(f"{ours}."):
            name = theirs + name.removeprefix(ours)
    return name


LTX_LAYOUTS = {
    "diffusers": lambda low: {f"transformer.{n}.lora_{s}.weight": t for n, ab in low.items() for s, t in zip("AB", ab)},
    "comfy": lambda low: {f"diffusion_model.{old_ltx_name(n)}.lora_{s}.weight": t for n, ab in low.items() for s, t in zip("AB", ab)},
    "kohya": lambda low: down_up(low, "lora_unet_", lambda name: flat(old_ltx_name(name))),
    "kohya, two underscores": lambda low: down_up(low, "lora_unet__", flat),
    "compiled": lambda low: {f"_orig_mod.{n}.lora_{s}.weight": t for n, ab in low.items() for s, t in zip("AB", ab)},
}  # fmt: skip


@pytest.mark.parametrize("layout", LTX_LAYOUTS)
def test_every_layout_of_ltx_is_read(tmp_path, layout):
    _, net = ltx_network(tmp_path)
    low = pairs(
        net,
        ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "time_embed.linear", "proj_out"),
    )
    assert len(low) == 23
    save_file(LTX_LAYOUTS[layout](low), tmp_path / "x.safetensors")
    lora = read(tmp_path / "x.safetensors", net, LTX_FORMAT)
    assert {name.removesuffix(".weight") for name in lora.deltas} == set(low)
    assert all(torch.equal(lora.deltas[f"{name}.weight"].up, up) for name, (_, up) in low.items())


def test_ltx_takes_tables_dora_and_loras_of_some_blocks(tmp_path):
    _, net = ltx_network(tmp_path)
    tables = {f"diffusion_model.transformer_blocks.{n}.diff_m": rand(6, 20, seed=n) for n in (0, 1)}
    low = pairs(net, ("transformer_blocks.1.attn1.to_q",))
    tensors = down_up(low, "diffusion_model.", lambda name: name)
    save_file(tables | tensors | {"diffusion_model.transformer_blocks.1.attn1.to_q.dora_scale": torch.ones(20, 1)}, tmp_path / "x.safetensors")  # fmt: skip
    lora = read(tmp_path / "x.safetensors", net, LTX_FORMAT)
    assert set(lora.diffs) == {f"transformer_blocks.{n}.scale_shift_table" for n in (0, 1)}
    MergedLoras(net).use([(lora, 1.0)])
    norms = net.transformer_blocks[1].attn1.to_q.weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(20))
    assert "leaves 1 layers of the kinds that it changes alone: transformer_blocks.0.attn1.to_q" in lora.notes[0]


# ---------------------------------------------------------------- in use
@pytest.mark.parametrize("family", ["wan", "ltx"])
def test_a_model_applies_partial_loras_if_asked_for_and_warns(tmp_path, family):
    folder = (random_wan if family == "wan" else random_ltx)(tmp_path / "m")
    blocks = "blocks" if family == "wan" else "transformer_blocks"
    width = 24 if family == "wan" else 20
    shapes = {"A": (2, width), "B": (width, 2)}
    tensors = {f"{blocks}.{n}.attn1.to_q.lora_{x}.weight": rand(*s) for x, s in shapes.items() for n in (0, 1)}
    tensors |= {f"{blocks}.0.attn2.add_k_proj.lora_{x}.weight": rand(*s) for x, s in (("A", (2, 24)), ("B", (24, 2)))}
    save_file(tensors, tmp_path / "x.safetensors")
    loras = ((str(tmp_path / "x.safetensors"), 1.0),)
    with pytest.raises(ValueError, match=r"2 left over: \S+add_k_proj.* \(--lora-partial applies what fits\)"):
        load(folder).features.lora.check(loras)
    model = load(folder, lora_partial=True)
    with pytest.warns(UserWarning, match=r"fits \w+ in part: it leaves out 2 left over: \S+add_k_proj"):
        model.features.lora.check(loras)
    before = bits(released.session(model).net)
    model.features.lora.use(loras)
    after = bits(released.session(model).net)
    assert [name for name in before if not torch.equal(before[name], after[name])] == [
        f"{blocks}.{n}.attn1.to_q.weight" for n in (0, 1)
    ]


def test_the_same_lora_twice_is_refused_as_in_scripts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "./a", str(tmp_path / "a")):
        with pytest.raises(ScriptError, match="named twice: name it once, with the sum of its strengths"):
            lora_files.placed(Script.of([Scene("x")], 24), [("a", 1.0), (name, 0.5)])
    with pytest.raises(ScriptError, match="named twice"):
        lora_files.placed(Script.of([Scene("x", lora=(("a", 0.5), ("./a", 0.5)))], 24))
    assert lora_files.placed(Script.of([Scene("x")], 24), [("a", 1.0), ("b", 1.0)])
