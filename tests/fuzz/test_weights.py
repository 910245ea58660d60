"""Bad checkpoints and LoRAs, generated from small good ones."""

import json
import shutil
import struct
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models import load
from tests.checkpoints import random_wan
from tests.fuzz.harness import IMPOSTORS, SPECIAL, Case, cut, flipped, judge, special

NET = "transformer/diffusion_pytorch_model.safetensors"
PARTS = (NET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
CONFIGS = ("longtake.json", "transformer/config.json", "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer.json")  # fmt: skip
JSONS = {
    "cut": '{"a": 1', "a list": "[]", "a number": "3", "null": "null", "nested deeply": "[" * 100000 + "]" * 100000,
    "empty": "", "latin-1": '{"name": "caf\xe9"}', "infinity": '{"num_layers": Infinity}', "no key": "{}",
}  # fmt: skip
VALUES = (-1, 0, 10**9, 1e23, "x", None, True, [], {}, [10**9] * 5)
KEYS = {
    "transformer/config.json": ("num_layers", "num_attention_heads", "attention_head_dim", "patch_size", "in_channels"),
    "vae/config.json": ("base_dim", "z_dim", "dim_mult", "num_res_blocks"),
    "longtake.json": ("fps", "size", "max_latent_frames", "family"),
}
SAME = {("longtake.json", "family", "x")}


@cache
def good() -> Path:
    """A small checkpoint, made once in a process."""
    return random_wan(Path(mkdtemp()) / "tiny")


def on(change, *words):
    """Generate with a copy of the checkpoint that `change` (folder, rng) has spoilt."""

    def make(folder, rng):
        model = shutil.copytree(good(), folder / "m")
        change(model, rng)
        return [
            "generate",
            "a",
            "--model",
            model,
            "--seconds",
            "0.1",
            "--steps",
            "1",
            "--device",
            "cpu",
            "-o",
            "{out}",
            *words,
        ]

    return make


def write(name, data):
    def change(model, rng):
        (model / name).unlink()
        (model / name).write_bytes(data if isinstance(data, bytes) else data.encode("latin-1"))

    return change


def replace_by(name, kind):
    def change(model, rng):
        (model / name).unlink()
        special(model / name, kind)

    return change


def set_key(name, key, value):
    def change(model, rng):
        config = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps({**config, key: value}))

    return change


def header_of(data: bytes) -> int:
    """The bytes of the header of a safetensors file, with its length."""
    return 8 + struct.unpack("<Q", data[:8])[0]


def spoil(name, how):
    def change(model, rng):
        data = (model / name).read_bytes()
        size = header_of(data)
        (model / name).write_bytes({
            "cut": lambda: cut(data, rng),
            "header": lambda: flipped(data[:size], rng) + data[size:],
            "header thrice": lambda: flipped(data[:size], rng, 3) + data[size:],
            "weights": lambda: data[:size] + flipped(data[size:], rng),
            "longer": lambda: data + b"\0" * 7,
            "length": lambda: struct.pack("<Q", rng.choice([0, 1, 2**63, 2**64 - 1, len(data)])) + data[8:],
        }[how]())  # fmt: skip

    return change


def change_tensor(name, value):
    """Change one tensor of a part: NaN, infinity, another shape or dtype, removed, or one more."""

    def change(model, rng):
        tensors = load_file(model / name)
        key = rng.choice(sorted(k for k, t in tensors.items() if t.ndim and t.is_floating_point()))
        one = tensors[key]
        if value == "removed":
            del tensors[key]
        elif value == "extra":
            tensors["nobody.knows.weight"] = torch.ones(2)
        elif value == "int8":
            tensors[key] = one.to(torch.int8)
        elif value == "shape":
            tensors[key] = torch.ones(*one.shape, 2)
        else:
            one.view(-1)[rng.randrange(one.numel())] = float(value)
        save_file(tensors, model / name)

    return change


def checkpoints():
    """Bad checkpoint folders."""
    for name in PARTS:
        for kind, data in IMPOSTORS.items():
            yield Case(f"{name} is {kind}", on(write(name, data)))
        for kind in SPECIAL:
            yield Case(f"{name} is a {kind}", on(replace_by(name, kind)))
        for value in ("nan", "inf", "removed", "extra", "shape", "int8"):
            yield Case(f"{name} tensor {value}", on(change_tensor(name, value)))
        for how in ("cut", "longer", "length"):
            yield Case(f"{name} {how}", on(spoil(name, how)))
    for name in CONFIGS:
        for kind, text in JSONS.items():
            yield Case(f"{name} is {kind}", on(write(name, text)))
        for kind in SPECIAL[:-1]:
            yield Case(f"{name} is a {kind}", on(replace_by(name, kind)))
    for name, keys in KEYS.items():
        for key in keys:
            for i, value in enumerate(VALUES):
                yield Case(f"{name} {key} {i}", on(set_key(name, key, value)))


def recorded(out: Path) -> None:
    """The run names weights by another SHA-256 than that of the good checkpoint."""
    assert json.loads((out / "run.json").read_text())["weights"] != load(good()).info.digest


def changed_bits():
    """Checkpoints with changed bits, of which some do no harm."""
    for i in range(12):
        yield Case(f"header {i}", on(spoil(PARTS[i % 3], "header")), None)
        yield Case(f"header thrice {i}", on(spoil(PARTS[i % 3], "header thrice")), None)
        yield Case(f"weights {i}", on(spoil(PARTS[i % 3], "weights")), None, whole=recorded)


def with_lora(change):
    """Generate with a LoRA that `change` (path, tensors, rng) has written."""

    def make(folder, rng):
        tensors = {}
        for layer in ("blocks.1.attn1.to_q", "blocks.0.attn1.to_q"):
            out, inner = load_file(good() / NET)[f"{layer}.weight"].shape
            tensors[f"{layer}.lora_B.weight"] = torch.full((out, 2), 0.01)
            tensors[f"{layer}.lora_A.weight"] = torch.full((2, inner), 0.01)
        change(folder / "l.safetensors", tensors, rng)
        words = ["--seconds", "0.1", "--steps", "1", "--device", "cpu", "-o", "{out}"]
        return ["generate", "a", "--model", good(), "--lora", folder / "l.safetensors", *words]

    return make


def lora_of(how):
    """A bad LoRA: its tensors, its bytes, or another thing in its place."""

    def change(path, tensors, rng):
        *_, up, down = tensors
        if how in SPECIAL:
            special(path, how)
            return
        if how in IMPOSTORS:
            path.write_bytes(IMPOSTORS[how])
            return
        if how in ("nan", "inf"):
            tensors[up][0, 0] = float(how)
        if how == "half":
            del tensors[up]
        if how == "rank":
            tensors[up] = torch.ones(tensors[up].shape[0], 3)
        if how == "shape":
            tensors[down] = torch.ones(2, 7)
        if how == "unknown layer":
            tensors = {key.replace("to_q", "to_z"): tensor for key, tensor in tensors.items()}
        if how == "no tensors":
            tensors = {}
        if how == "alpha nan":
            tensors[down.replace("lora_A.weight", "alpha")] = torch.tensor(float("nan"))
        if how == "alpha a list":
            tensors[down.replace("lora_A.weight", "alpha")] = torch.ones(3)
        if how == "int":
            tensors[up] = tensors[up].to(torch.int32)
        save_file(tensors, path)
        data = path.read_bytes()
        size = header_of(data)
        if how == "cut":
            path.write_bytes(cut(data, rng))
        if how.startswith("header"):
            path.write_bytes(flipped(data[:size], rng) + data[size:])
        if how.startswith("bits"):
            path.write_bytes(data[:size] + flipped(data[size:], rng))

    return with_lora(change)


BROKEN = (
    "nan",
    "inf",
    "half",
    "rank",
    "shape",
    "unknown layer",
    "no tensors",
    "alpha nan",
    "alpha a list",
    "int",
    "cut",
)


def bad_loras():
    """Bad LoRA files."""
    for how in (*BROKEN, *IMPOSTORS, *SPECIAL):
        yield Case(f"lora {how}", lora_of(how))
    for strength in ("nan", "inf", "", "x", "1e40"):
        make = lora_of("good")
        yield Case(f"lora strength {strength}", lambda f, r, m=make, s=strength: [f"{w}={s}" if str(w).endswith("l.safetensors") else w for w in m(f, r)])  # fmt: skip
    for i in range(10):
        yield Case(f"lora header {i}", lora_of(f"header {i}"), None)
        yield Case(f"lora bits {i}", lora_of(f"bits {i}"), None)


def test_the_good_checkpoint_and_the_good_lora_are_good(tmp_path):
    judge(Case("good", lora_of("good"), 0), tmp_path)


def calibrations():
    """Bad files of step caching."""

    def on(data):
        def make(folder, rng):
            if data in SPECIAL:
                special(folder / "c.json", data)
            else:
                (folder / "c.json").write_bytes(data.encode("latin-1"))
            words = ["--step-cache", "0.2", "--step-cache-calibration", folder / "c.json", "-o", "{out}"]
            return ["generate", "a", "--model", good(), "--seconds", "0.1", "--steps", "1", "--device", "cpu", *words]

        return make

    yield from (Case(f"calibration is {kind}", on(text)) for kind, text in JSONS.items())
    yield from (Case(f"calibration is a {kind}", on(kind)) for kind in SPECIAL)


@pytest.mark.long
@pytest.mark.parametrize("case", [*checkpoints(), *bad_loras(), *calibrations()], ids=str)
def test_bad_weights_are_refused(case, tmp_path):
    judge(case, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("case", [*changed_bits()], ids=str)
def test_changed_bits_are_refused_or_recorded(case, tmp_path):
    judge(case, tmp_path)
