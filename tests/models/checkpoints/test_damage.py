"""Damaged and foreign files: each is refused in one sentence that says what it is, and inspect agrees with load."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.core.errors import InputError
from longtake.models import load
from longtake.models.checkpoints.loading import WeightsError, read, read_json
from longtake.models.checkpoints.safetensors_headers import header
from longtake.models.registry import inspect
from tests import released
from tests.checkpoints import random_ltx, random_wan
from tests.models.ltx.test_checkpoint import released as released_ltx
from tests.models.ltx.test_single_file import single


def weights_of(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def change_json(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_header(file: Path, change) -> None:
    """Rewrite the header of a safetensors file; change: (header) -> header or text."""
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    made = change(json.loads(raw[8 : 8 + length]))
    text = (made if isinstance(made, str) else json.dumps(made)).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


# ---------------------------------------------------------------- what a file is, by its first bytes
KINDS = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "Git LFS pointer .*git lfs pull"),
    "HTML": (b"<!DOCTYPE html>\n<html><head>", r"a web page \(HTML\) .*download the file itself"),
    "HTML with a BOM": (b"\xef\xbb\xbf\n <html>", "a web page"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "JSON": (b'{"error": "Repository not found"}', "a JSON text"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(60), "a PNG image"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(60), "a JPEG image"),
    "WebP": (b"RIFF\0\0\0\0WEBP", "a WebP, WAV or AVI file"),
    "MP4": (b"\0\0\0\x20ftypisom" + bytes(60), "a video"),
    "zip": (b"PK\x03\x04" + bytes(60), "a pickle of PyTorch.*longtake convert"),
    "pickle": (b"\x80\x02}q\x00." + bytes(60), "a pickle of PyTorch.*longtake convert"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "a gzip archive: unpack it"),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c" + bytes(60), "a 7-Zip archive: unpack it"),
    "nothing": (b"", "damaged or cut short .*fetch it again"),
    "zeros": (bytes(200), "damaged or cut short .*fetch it again"),
    "noise": (bytes(range(7, 207)), "damaged or cut short .*fetch it again"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x.safetensors", "x.gguf", "x"])
def test_first_bytes_show_what_a_file_without_weights_is(tmp_path, kind, name):
    content, words = KINDS[kind]
    file = tmp_path / name
    file.write_bytes(content)
    for call in (lambda: header(file), lambda: read(file), lambda: inspect(file), lambda: load(file)):
        with pytest.raises(WeightsError, match=words) as error:
            call()
        assert ("fetch it again" in str(error.value)) == ("fetch it again" in words)


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt", ".sft", ""])
def test_safetensors_are_read_under_any_name(tmp_path, suffix):
    save_file({"a": torch.ones(2)}, tmp_path / f"x{suffix}")
    assert read(tmp_path / f"x{suffix}")["a"].tolist() == [1, 1]


@pytest.mark.parametrize("length", [0x0280, 0x0580, 0x4B50])
def test_a_length_that_looks_like_another_sign_is_a_length(tmp_path, length):
    """A header of 640 bytes begins as a pickle of protocol 2 does, one of 19280 bytes as a zip archive."""
    file, short = tmp_path / "x.safetensors", {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(short).encode().ljust(length)
    file.write_bytes(struct.pack("<Q", length) + text + torch.ones(2).numpy().tobytes())
    assert read(file)["a"].tolist() == [1, 1] and list(header(file)) == ["a"]


# ---------------------------------------------------------------- headers and JSON
HEADERS = {
    "an infinite shape": lambda h: json.dumps(h).replace('"shape": [24, 24]', '"shape": [Infinity, 24]', 1),
    "a negative shape": lambda h: json.dumps(h).replace('"shape": [24, 24]', '"shape": [-24, 24]', 1),
    "a text as shape": lambda h: json.dumps(h).replace('"shape": [24, 24]', '"shape": "24"', 1),
    "a huge shape": lambda h: json.dumps(h).replace('"shape": [24, 24]', '"shape": [0, 1000000000000000000000]', 1),
    "an infinite offset": lambda h: json.dumps(h).replace('"data_offsets": [0', '"data_offsets": [Infinity', 1),
    "one offset": lambda h: {
        name: one | {"data_offsets": [0]} if name != "__metadata__" else one for name, one in h.items()
    },
    "an unknown dtype": lambda h: json.dumps(h).replace('"F32"', '"F33"', 1),
    "a list as dtype": lambda h: json.dumps(h).replace('"F32"', "[1]", 1),
    "a number as tensor": lambda h: h | {"extra": 5},
    "a list": lambda h: "[" * 30 + "]" * 30,
    "deep nesting": lambda h: '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    "no JSON": lambda h: "{",
    "no UTF-8": lambda h: '{"\udcff": 1}'.encode("utf-8", "surrogateescape").decode("latin-1"),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_a_damaged_header_is_refused_in_one_sentence(tmp_path, fault):
    folder = random_wan(tmp_path / "m")
    change_header(weights_of(folder / "transformer"), HEADERS[fault])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        load(folder)
    assert not inspect_or_none(folder)


JSON_TEXTS = ("[1]", "[" * 100_000, "\xff\xfe", "3", '"x"', "null", "{", "", '{"a":' * 100_000, "{'a': 1}")


@pytest.mark.parametrize("name", ["model_index.json", "longtake.json", "transformer/config.json", "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer.json"])  # fmt: skip
@pytest.mark.parametrize(
    "texts", [JSON_TEXTS[:3], pytest.param(JSON_TEXTS[3:], marks=pytest.mark.long)], ids=["3", "7"]
)
def test_json_of_another_form_is_refused_in_every_file(tmp_path, name, texts):
    folder = random_wan(tmp_path / "m")
    if name == "model_index.json":
        (folder / "longtake.json").unlink()
    for text in texts:
        (folder / name).write_text(text, encoding="latin-1")
        with pytest.raises(InputError) as error:
            load(folder)
        assert "\n" not in str(error.value)
        assert not inspect_or_none(folder), text[:20]
    fifo(folder / name)
    with pytest.raises(InputError, match=r"a pipe or a device|is missing"):
        load(folder)
    assert not inspect_or_none(folder)


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "x.json") == {"a": 1}


# ---------------------------------------------------------------- inspect and load agree
def inspect_or_none(path: Path) -> bool:
    """Tell whether inspect calls a checkpoint complete; a refusal in one sentence says that it is not."""
    try:
        return inspect(path).complete
    except InputError as error:
        assert "\n" not in str(error)
        return False


def load_or_none(path: Path) -> str:
    """Return why load refuses a checkpoint, or ""."""
    try:
        load(path)
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


def without(folder: Path, pattern: str) -> None:
    file = weights_of(folder)
    save_file({name: one for name, one in load_file(file).items() if pattern not in name}, file)


def split_shards(folder: Path, index: bool = True) -> None:
    """Write the weights of a folder as three shards by layer, and an index of them."""
    file = weights_of(folder)
    tensors = load_file(file)
    places = {name: 1 if ".0." in name else 2 if ".1." in name else 3 for name in tensors}
    names = {number: f"m-{number:05}-of-00003.safetensors" for number in (1, 2, 3)}
    file.unlink()
    for number, name in names.items():
        save_file({key: one for key, one in tensors.items() if places[key] == number}, folder / name)
    if index:
        table = {"weight_map": {key: names[number] for key, number in places.items()}}
        (folder / "m.safetensors.index.json").write_text(json.dumps(table))


def index_with(folder: Path, **changes) -> None:
    split_shards(folder)
    change_json(folder / "m.safetensors.index.json", **changes)


def lost_shard(folder: Path, index: bool) -> None:
    split_shards(folder, index)
    (folder / "m-00003-of-00003.safetensors").unlink()


def swapped_shard(folder: Path) -> None:
    """Put a copy of one shard under the name of another, as after a mistaken rename."""
    split_shards(folder)
    shutil.copy(folder / "m-00001-of-00003.safetensors", folder / "m-00002-of-00003.safetensors")


def as_whole_numbers(folder: Path) -> None:
    file = weights_of(folder)
    save_file({name: one.to(torch.int8) for name, one in load_file(file).items()}, file)


DAMAGE = {
    "nothing": lambda f: None,
    "shards": lambda f: split_shards(f / "transformer"),
    "shards without an index": lambda f: split_shards(f / "transformer", index=False),
    "a lost shard": lambda f: lost_shard(f / "transformer", True),
    "a lost shard without an index": lambda f: lost_shard(f / "transformer", False),
    "a swapped shard": lambda f: swapped_shard(f / "transformer"),
    "a number in the index": lambda f: index_with(f / "transformer", weight_map={"a": 5}),
    "a path in the index": lambda f: index_with(f / "transformer", weight_map={"a": "../../x.safetensors"}),
    "no table in the index": lambda f: index_with(f / "transformer", weight_map=[1]),
    "a lost layer": lambda f: without(f / "transformer", "blocks.1."),
    "a lost bias": lambda f: without(f / "vae", "conv_in"),
    "a lost word": lambda f: without(f / "text_encoder", "shared"),
    "int8": lambda f: as_whole_numbers(f / "transformer"),
    "no vae": lambda f: shutil.rmtree(f / "vae"),
    "no tokenizer": lambda f: shutil.rmtree(f / "tokenizer"),
    "an empty part": lambda f: weights_of(f / "vae").unlink(),
    "a folder as file": lambda f: (weights_of(f / "vae").unlink(), (f / "vae" / "x.safetensors").mkdir()),
    "a pipe as weights": lambda f: fifo(weights_of(f / "vae")),
    "a pipe beside the weights": lambda f: os.mkfifo(f / "vae" / "other.safetensors"),
    "a device": lambda f: (weights_of(f / "vae").unlink(), (f / "vae" / "x.safetensors").symlink_to("/dev/zero")),
    "a link to itself": lambda f: (weights_of(f / "vae").unlink(), (f / "vae" / "x.safetensors").symlink_to("x.safetensors")),
    "1e9 layers": lambda f: change_json(f / "transformer" / "config.json", num_layers=10**9),
    "layers as a text": lambda f: change_json(f / "transformer" / "config.json", num_layers="2"),
    "layers as a float": lambda f: change_json(f / "transformer" / "config.json", num_layers=2.0),
    "no heads": lambda f: change_json(f / "transformer" / "config.json", num_attention_heads=0),
    "an infinite width": lambda f: change_json(f / "transformer" / "config.json", num_attention_heads=float("inf")),
    "a width of 1e9": lambda f: change_json(f / "transformer" / "config.json", attention_head_dim=10**7, num_attention_heads=10**7),
    "3 layers": lambda f: change_json(f / "transformer" / "config.json", num_layers=3),
    "1e9 words": lambda f: change_json(f / "text_encoder" / "config.json", num_layers=10**9),
    "a text encoder of lists": lambda f: change_json(f / "text_encoder" / "config.json", d_model=[1]),
    "fps as a text": lambda f: change_json(f / "longtake.json", fps="24"),
    "fps 0": lambda f: change_json(f / "longtake.json", fps=0),
    "an infinite fps": lambda f: change_json(f / "longtake.json", fps=float("inf")),
    "a size of one number": lambda f: change_json(f / "longtake.json", size=[16]),
    "a size of texts": lambda f: change_json(f / "longtake.json", size=["16", "16"]),
    "options as a list": lambda f: change_json(f / "longtake.json", strategy_options=[1]),
    "guidance as a text": lambda f: change_json(f / "longtake.json", guidance_scale="2"),
    "family as a number": lambda f: change_json(f / "longtake.json", family=5),
    "no name": lambda f: (f / "longtake.json").write_text(json.dumps({k: v for k, v in json.loads((f / "longtake.json").read_text()).items() if k != "name"})),
}  # fmt: skip
VAE_BLOCKS = {"wan": "num_res_blocks", "ltx": "layers_per_block"}


ALSO_LTX = (
    "nothing",
    "a lost shard",
    "a lost bias",
    "int8",
    "a pipe as weights",
    "a VAE of 1e9 blocks",
    "no name",
    "no tokenizer",
)


@pytest.mark.parametrize(
    ("family", "damage"),
    [
        pytest.param(family, damage, marks=[] if family == "wan" or damage in ALSO_LTX else pytest.mark.long)
        for family in ("wan", "ltx")
        for damage in (*DAMAGE, "a VAE of 1e9 blocks")
    ],
)
def test_inspect_calls_whole_exactly_what_load_opens(tmp_path, family, damage):
    folder = (random_wan if family == "wan" else random_ltx)(tmp_path / "m")
    if damage in DAMAGE:
        DAMAGE[damage](folder)
    else:
        blocks = 10**9 if family == "wan" else [10**9, 1, 1, 1, 1]
        change_json(folder / "vae" / "config.json", **{VAE_BLOCKS[family]: blocks})
    refused, complete = load_or_none(folder), inspect_or_none(folder)
    assert complete == (not refused), refused
    assert complete == (damage in ("nothing", "shards", "shards without an index")), refused


def test_the_layers_of_an_original_folder_are_those_of_its_config_and_names(tmp_path):
    """Not those that are there: a lost last shard once loaded with fewer layers, silently."""
    made = released.parts("df")
    folder = released.original(tmp_path / "m", made, num_layers=2)
    split_shards_of(folder)
    assert not load_or_none(folder) and inspect(folder).complete
    last = folder / "diffusion_pytorch_model-00002-of-00002.safetensors"
    content = last.read_bytes()
    last.unlink()
    assert "fetch diffusion_pytorch_model-00002-of-00002.safetensors" in load_or_none(folder)
    assert not inspect_or_none(folder)
    first = folder / "diffusion_pytorch_model-00001-of-00002.safetensors"
    first.rename(folder / "model.safetensors")  # so that no name states the number of shards
    assert "holds 1 of the 2 layers that its config.json states" in load_or_none(folder)
    (folder / "model.safetensors").rename(first)
    last.write_bytes(content)
    change_json(folder / "config.json", num_layers=3)
    assert "holds 2 of the 3 layers" in load_or_none(folder) and not inspect_or_none(folder)
    index = {"weight_map": {"a": "diffusion_pytorch_model-00003-of-00003.safetensors"}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks diffusion_pytorch_model-00003-of-00003.safetensors" in load_or_none(folder)
    for heads in (0, "1", 5, 10**9, [1]):
        change_json(folder / "config.json", num_layers=2, num_heads=heads)
        assert load_or_none(folder) and not inspect_or_none(folder)


def split_shards_of(folder: Path) -> None:
    """Give the shards of an original folder whole layers, in order, as released."""
    files = sorted(folder.glob("diffusion*.safetensors"))
    tensors = {name: one for file in files for name, one in load_file(file).items()}
    for number, file in enumerate(files):
        chosen = {name: one for name, one in tensors.items() if (".1." in name and "blocks" in name) == bool(number)}
        save_file({name: one.clone() for name, one in chosen.items()}, file)


def test_the_layers_of_an_official_ltx_file_are_those_of_its_metadata(tmp_path):
    folder = released_ltx(tmp_path / "m")
    about = {"num_attention_heads": 2, "causal_temporal_positioning": True}
    file = single(folder, transformer=about | {"num_layers": 2})
    assert inspect(file).complete and not load_or_none(file)
    for layers in (3, 10**9, "2", None, [2]):
        file = single(folder, transformer=about | {"num_layers": layers})
        assert load_or_none(file) and not inspect_or_none(file), layers


@pytest.mark.parametrize("metadata", ["[1]", "3", "{", '{"transformer": 3}', '{"vae": [1]}', '{"vae": {"latent_channels": 4, "encoder_blocks": 3}}', '{"vae": {"latent_channels": 4, "encoder_blocks": [["res_x", 1000000000]], "decoder_blocks": [["res_x", 1]]}}', '{"allowed_inference_steps": ["a"]}', '{"allowed_inference_steps": 5}', "[" * 100_000])  # fmt: skip
def test_metadata_of_another_form_is_refused(tmp_path, metadata):
    folder = released_ltx(tmp_path / "m")
    file = single(folder)
    tensors = load_file(file)
    save_file(tensors, file, {"config": metadata})
    assert load_or_none(file) and not inspect_or_none(file)


# ---------------------------------------------------------------- GGUF
def small_gguf(file: Path) -> bytes:
    writer = gguf.GGUFWriter(file, "wan")
    writer.add_tensor("a.weight", torch.ones(4, 32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.read_bytes()


def test_a_damaged_gguf_is_refused_and_never_read_without_end(tmp_path):
    file = tmp_path / "x.gguf"
    whole = small_gguf(file)
    huge = struct.pack("<Q", 2**62)
    damaged = [whole[:keep] for keep in (4, 8, 20, 40, 100, len(whole) - 60)]
    damaged += [whole[:at] + huge + whole[at + 8 :] for at in (8, 16, 24)]  # counts of tensors and fields, a length
    damaged += [whole[:at] + b"\xff" * 4 + whole[at + 4 :] for at in range(4, 140, 4)]
    refused = 0
    for content in damaged:
        file.write_bytes(content)
        for call in (lambda: header(file), lambda: read(file)):
            try:
                call()
            except WeightsError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > len(damaged)


def test_a_type_of_gguf_without_a_formula_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "wan")
    writer.add_tensor("a.weight", torch.ones(4, 32, dtype=torch.int8).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(WeightsError, match=r"a.weight \(I8\), a type that the library gguf does not dequantise"):
        read(tmp_path / "x.gguf")
