"""Networks, random LoRAs and file layouts for the tests of LoRA."""

from __future__ import annotations

import json

import torch
from torch import nn

from longtake.models.lora.delta import Lora, LoraDelta
from longtake.models.lora.merge import MergedLoras
from longtake.models.lora.read import read
from longtake.models.wan import config as wan_config
from longtake.models.wan import transformer as wan
from longtake.models.wan.layout.lora_names import KEY_FORMAT, SVI_TARGETS
from tests.oracles import rand, shuffled
from tests.released import wan_name

RANK, ALPHA = 3, 6.0
MORE = ("add_k_proj", "add_v_proj", "time_proj", "text_embedder.linear_1", "image_embedder.ff.net.0.proj", "proj_out")


def network(dtype: torch.dtype = torch.float32) -> wan.WanTransformer:
    """Return an image-to-video network, which has the most kinds of modules."""
    torch.manual_seed(0)
    net = wan.WanTransformer(wan_config.tiny(image_dim=14, added_kv_proj_dim=24))
    return shuffled(net).to(dtype)


def bits(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of all weights."""
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Tell whether all weights have equal bits and dtypes."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def matched(net: nn.Module, targets=SVI_TARGETS) -> list[str]:
    """Return the linear layers whose name ends with a target."""
    names = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    return [name for name in names if any(name.endswith(f".{t}") or name == t for t in targets)]


def pairs(net: nn.Module, targets=SVI_TARGETS, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return random factors (down, up) for each of these modules."""
    found = {}
    for i, name in enumerate(matched(net, targets)):
        out, inner = net.get_submodule(name).weight.shape
        found[name] = (rand(RANK, inner, seed=1000 * seed + 2 * i), rand(out, RANK, seed=1000 * seed + 2 * i + 1) / 9)
    return found


def by_hand(net: nn.Module, low: dict, strength: float = 1.0, scale: float = ALPHA / RANK) -> dict[str, torch.Tensor]:
    """Return W + strength * alpha / rank * up @ down in float64."""
    weights_ = bits(net)
    for name, (down, up) in low.items():
        weight = weights_[f"{name}.weight"]
        weights_[f"{name}.weight"] = weight.double() + strength * scale * (up.double() @ down.double())
    return weights_


def close(net: nn.Module, want: dict[str, torch.Tensor], tolerance: float = 1e-6) -> bool:
    """Tell whether every weight is the wanted one, within `tolerance` times its largest value."""
    have = bits(net)
    assert have.keys() == want.keys()
    return all((have[k].double() - want[k].double()).abs().max() <= tolerance * want[k].abs().max() for k in have)


def merged(net: nn.Module, path, strength: float = 1.0, **options) -> MergedLoras:
    """Merge the LoRA of a file into the network."""
    into = MergedLoras(net)
    into.use([(read(path, net, KEY_FORMAT, **options), strength)])
    return into


# ---------------------------------------------------------------- layouts
def peft_keys(low):
    return {
        f"base_model.model.{name}.lora_{side}.weight": t for name, ab in low.items() for side, t in zip("AB", ab)
    }  # fmt: skip


def svi_keys(low):
    return {
        f"pipe.dit.{wan_name(name)}.lora_{side}.default.weight": t
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


def loras(net, count: int = 3) -> list[Lora]:
    """Return several LoRAs on partly overlapping modules."""
    choice = [SVI_TARGETS, ("to_q", "proj_out"), ("ffn.net.2", "to_q")]
    return [
        Lora(f"l{i}", {f"{n}.weight": LoraDelta(a, b, 2.0) for n, (a, b) in pairs(net, choice[i], seed=i).items()})
        for i in range(count)
    ]


def of_one_layer(module):
    """Return the header of a file that was trained on one module alone."""
    return {"lora_adapter_metadata": json.dumps({"lora_alpha": ALPHA, "target_modules": [module]})}


def call(net, **options):
    return net(rand(1, 4, 2, 4, 4), torch.tensor([0.2, 0.9]), rand(1, 3, 10), **options)
