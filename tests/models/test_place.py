"""Where weights lie changes no number: parts take turns, blocks come one by one, and 8 bits lose what they must."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace

import pytest
import torch

import longtake
from longtake.models import ModelError, fp8, load
from longtake.models.blocks import Blocks
from longtake.models.lora import Merged, inject, save
from longtake.models.lora_file import Lora, Low
from longtake.models.place import Place, PlaceError
from longtake.models.turns import Lazy, Stage, Whole
from longtake.models.wan import WanTransformer, tiny
from longtake.models.wan_checkpoint import open_folder
from longtake.models.weights import WeightsError
from tests import released
from tests.checkpoints import random_wan
from tests.models.oracles import apart, rand, shuffled

CONFIG = tiny(num_layers=5, attention_head_dim=24)


class Far:
    """A device that is only pretended: what is brought are copies, which are counted as long as anybody has them."""

    def __init__(self):
        self.copies, self.most, self.brought, self.waited = [], 0, 0, []

    def bring(self, tensors):
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        self.copies.append([weakref.ref(copy.untyped_storage()) for copy in copies.values()])
        self.brought += 1
        self.most = max(self.most, self.alive)
        return copies

    @property
    def alive(self):
        return sum(any(copy() is not None for copy in copies) for copies in self.copies)

    def ready(self, brought):
        return brought

    def mark(self):
        return self.brought

    def reached(self, mark):
        self.waited.append(mark)


def run(net, seed=1):
    """Every way into a network: what it says, what it remembers, and what it reads of a text."""
    x, level, text = rand(1, 4, 3, 4, 4, seed=seed), torch.tensor([0.0, 0.4, 0.9]), rand(1, 5, 10)
    with torch.inference_mode():
        memory = net.text_memory(text)
        kept = net.remember(x, level, memory)
        return [net(x, level, memory), *kept.keys, *kept.values, *(part for layer in memory.layers for part in layer)]


def test_blocks_that_come_one_by_one_compute_the_same():
    net, far = shuffled(WanTransformer(CONFIG)), Far()
    expected, names = run(net), list(net.state_dict())
    rest = [weight.data_ptr() for weight in net.parameters()]
    net.blocks = Blocks(net.blocks, far)
    for one, other in zip(run(net), expected, strict=True):
        assert torch.equal(one, other)
    assert far.brought == 3 * CONFIG.num_layers, "three passes, each block once"
    assert far.most == 2, "the one at work and the one that comes next"
    assert far.waited, "the host waits for the device, else it would bring block after block"
    gc.collect()
    assert far.alive == 0 and [weight.data_ptr() for weight in net.parameters()] == rest
    assert list(net.state_dict()) == names


def test_a_pass_that_is_given_up_leaves_all_weights_at_rest():
    net, far = shuffled(WanTransformer(CONFIG)), Far()
    rest = [weight.data_ptr() for weight in net.parameters()]
    net.blocks = Blocks(net.blocks, far)
    for at, _ in enumerate(net.blocks):
        if at == 2:
            break
    gc.collect()
    assert [weight.data_ptr() for weight in net.parameters()] == rest and far.alive == 0
    broken = rand(1, 4, 3, 4, 4), torch.zeros(3), rand(1, 5, 11)  # a text of another width
    with pytest.raises(RuntimeError):
        net(*broken)
    gc.collect()
    assert [weight.data_ptr() for weight in net.parameters()] == rest


def test_eight_bits_keep_a_matrix_to_a_sixteenth_and_only_matrices():
    torch.manual_seed(0)
    weight = torch.randn(64, 256) * torch.logspace(-6, 3, 64)[:, None]
    weight[3] = 0
    narrowed, scale = fp8.narrow(weight)
    again = fp8.wide(narrowed, scale, torch.float32)
    assert narrowed.dtype == torch.float8_e4m3fn and scale.shape == (64, 1)
    assert ((again - weight).abs() <= weight.abs() / 16 + scale * 2**-10).all()
    assert 0.01 < apart(weight, again) < 0.03
    assert again[3].abs().sum() == 0
    whole = fp8.wide(*fp8.narrow(weight / weight.abs().amax()), torch.float32)
    assert torch.isfinite(whole).all()


def test_a_network_in_eight_bits_is_near_and_half_as_large():
    net, far = shuffled(WanTransformer(CONFIG)).bfloat16(), Far()
    expected = run(net)
    net.blocks = Blocks(net.blocks, far)
    net.blocks.shrink(torch.bfloat16)
    kinds = {name: weight.dtype for name, weight in net.named_parameters()}
    small = {name for name, dtype in kinds.items() if dtype == torch.float8_e4m3fn}
    assert small == {n for n, w in net.named_parameters() if n.startswith("blocks.") and n.endswith("weight")
                     and w.ndim == 2}  # fmt: skip
    assert not any(word in name for name in small for word in ("norm", "bias", "table", "embed"))
    assert 0.001 < apart(expected[0].float(), run(net)[0].float()) < 0.1
    gc.collect()
    assert far.alive == 0 and {name: weight.dtype for name, weight in net.named_parameters()} == kinds


# ---------------------------------------------------------------- a whole model
def frames(model, **how):
    return torch.cat(list(longtake.generate(model, "a red ball", seconds=0.7, seed=3, **how)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_wan(tmp_path_factory.mktemp("place") / "m", causal=True)


@pytest.mark.parametrize("offload", ["model", "blocks"])
def test_offload_changes_no_frame(folder, offload):
    plain, placed = open_folder(folder), open_folder(folder, offload=offload)
    assert torch.equal(frames(placed, plan="blocks"), frames(plain, plan="blocks"))
    assert placed.text.text.encoder is None, "the text encoder is gone once the prompts are encoded"
    assert torch.equal(frames(placed, plan="relay", overlap=5), frames(plain, plan="relay", overlap=5))


def test_offload_of_a_model_that_is_told_of_an_image(tmp_path):
    made = released.original(tmp_path / "m", released.parts("i2v"))
    image = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    how = dict(image=image, size=(32, 32), steps=2, window=9)
    plain, placed = open_folder(made), open_folder(made, offload="model")
    assert torch.equal(frames(placed, **how), frames(plain, **how))


@pytest.fixture(scope="module")
def style(tmp_path_factory):
    """A LoRA for the model in `folder`, at its strength."""
    net = shuffled(WanTransformer(tiny(causal=True, view=9)))
    inject(net, 2, 2.0, ["to_q", "ffn.net.2"])
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if ".up." in name:
                weight.normal_()
    return {str(save(net, tmp_path_factory.mktemp("style") / "style.safetensors")): 0.8}


def test_loras_are_merged_where_weights_lie(folder, style):
    scenes = [longtake.Scene("a red ball", 0.3, lora=style), longtake.Scene("a blue ball", 0.4)]

    def made(model):
        return torch.cat(list(longtake.generate(model, scenes, "relay", overlap=5, steps=2)))

    plain = made(open_folder(folder))
    for offload in ("model", "blocks"):
        assert torch.equal(made(open_folder(folder, offload=offload)), plain)


def test_loras_stand_beside_matrices_in_eight_bits():
    """Added to the wide matrix in float32, where rounding to 8 bits would have swallowed them."""
    net = shuffled(WanTransformer(CONFIG))
    query, bias = "attn1.to_q.weight", rand(len(net.blocks[1].attn1.to_q.bias), seed=4)
    rows, columns = net.blocks[0].attn1.to_q.weight.shape
    low = Low(rand(2, columns, seed=1), 1e-3 * rand(rows, 2, seed=2), 0.5)
    lora = Lora("style", {f"blocks.0.{query}": low}, {"blocks.1.attn1.to_q.bias": bias})
    narrow = Blocks(net.blocks, Far())
    narrow.shrink(torch.float32)
    plain = {name: weight.clone() for name, weight in net.named_parameters()}
    by_hand = {f"{at}.{name}": fp8.wide(dict(block.named_parameters())[name], kept.scale, torch.float32)
               for at, block in enumerate(narrow.blocks) for name, kept in narrow.kept[at].items()}  # fmt: skip
    net.blocks = narrow
    merged = Merged(net)
    for strength in (0.8, -2.0):
        merged.use([(lora, strength)])
        for at, block in enumerate(narrow):
            seen = dict(block.named_parameters())
            for name in narrow.kept[at]:
                change = strength * low.delta(seen[name]) if (at, name) == (0, query) else 0.0
                assert torch.allclose(seen[name], by_hand[f"{at}.{name}"] + change, atol=1e-7)
            if at == 1:
                assert torch.allclose(seen["attn1.to_q.bias"], plain["blocks.1.attn1.to_q.bias"] + strength * bias)
    merged.use([])
    assert not narrow.changes
    assert all(torch.equal(weight.float(), plain[name].float()) for name, weight in net.named_parameters())
    whole = Lora("whole", {}, {f"blocks.0.{query}": torch.ones(rows, columns)})
    with pytest.raises(WeightsError, match="as a whole: leave --fp8 out"):
        merged.use([(whole, 1.0)])


def test_a_lora_is_seen_in_eight_bits_wherever_they_lie(folder, style):
    def made(model, loras):
        scenes = [longtake.Scene("a red ball", 0.7, lora=loras)]
        return torch.cat(list(longtake.generate(model, scenes, "relay", overlap=5, steps=2)))

    small = open_folder(folder, fp8=True)
    plain, styled, wide = made(small, {}), made(small, style), made(open_folder(folder), style)
    off = (styled.float() - wide.float()).abs().mean()
    assert off < 0.5 * (styled.float() - plain.float()).abs().mean() and off < 12
    for offload in ("model", "blocks"):
        placed = open_folder(folder, fp8=True, offload=offload)
        assert torch.equal(made(placed, style), styled)
    assert torch.equal(made(small, {}), plain)


def test_eight_bits_make_almost_the_same_video(folder):
    plain, small = (frames(open_folder(folder, fp8=fp8), plan="relay", overlap=5).float() for fp8 in (False, True))
    assert 0 < (plain - small).abs().mean() < 12


# ---------------------------------------------------------------- turns and names
def test_one_part_is_there_at_a_time():
    log = []

    class Told:
        def __init__(self, name):
            self.come, self.leave = (lambda what=what: log.append(f"{name} {what}") for what in ("comes", "leaves"))

    stage, a, b = Stage(), Told("a"), Told("b")
    turns = stage.turn(a), stage.turn(b)
    for turn in (0, 0, 1, 0):
        turns[turn]()
    stage.enter(None)
    assert log == ["a comes", "a leaves", "b comes", "b leaves", "a comes", "a leaves"]


def test_a_part_that_leaves_costs_no_copy():
    net = torch.nn.Linear(3, 3)
    before = net.weight.data_ptr()
    part = Whole(net, "cpu")
    part.come()
    part.leave()
    assert net.weight.data_ptr() == before and not part.host
    held = []
    lazy = Lazy(lambda: torch.nn.Linear(2, 2), held.append)
    lazy.come()
    lazy.leave()
    assert len(held) == 2 and held[1] is None


def test_names_of_places():
    assert Place("cpu").options() == {} and Place("cpu").facts() == {}
    asked = Place("cpu", "bf16", "blocks", True)
    assert asked.options() == {"offload": "blocks", "fp8": True, "dtype": torch.bfloat16}
    assert Place(**{"device": "cpu", **asked.facts()}) == asked
    fast = Place("cpu", attention="sdpa", compile=True, cache=0.2, rule={"coefficients": [1.0, 0.0]})
    assert fast.options() == {"attention": "sdpa", "compile": True}
    assert Place(**{"device": "cpu", **json.loads(json.dumps(fast.facts()))}) == fast
    for wrong, message in (
        (dict(device="gpu"), "auto, cpu, cuda or cuda:N"), (dict(dtype="int3"), "--dtype is auto"),
        (dict(offload="all"), "--offload is one of"), (dict(device="cuda:99"), "use --device"),
        (dict(rule={}), "give --cache too"),
    ):  # fmt: skip
        with pytest.raises(PlaceError) as error:
            replace(Place(), **wrong).options()
        assert message in str(error.value)
    with pytest.raises(ModelError, match="clock models have no --offload"):
        load("clock", placing=Place("cpu", offload="model"))
