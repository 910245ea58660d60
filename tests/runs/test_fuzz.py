"""Generated damage to run directories: every command ends in an exit code and one sentence, and writes nothing outside."""

import copy
import hashlib
import json
import os
import random
import shutil
import time

import pytest

from longtake.cli import run as longtake
from longtake.runs.files.sealed import sealed
from tests.runs.toy_runs import sha

pytestmark = pytest.mark.long

VALUES = [
    None, True, -1, 0, 1.5, 1e308, 10**30, "", "x", [], {}, [1], {"a": 1}, ["x"] * 3, "../../x", "\0", [[[[[]]]]],
    float("inf"), float("nan"), 10**9,
]  # fmt: skip
NAMES = ["run.json", "journal.jsonl", "index.m3u8", "edits.jsonl", "edit_horizon.json", "media/init.mp4"]
COMMANDS = [["verify"], ["resume"], ["prompts", "list"], ["prompts", "add", "a blue ball", "--seconds", "1"]]
SECONDS = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "run"
    words = ["generate", "a ball", "--model", "clock", "--num-frames", "60", "--steps", "2", "-o", str(folder)]
    assert longtake(words) == 0
    return folder


def rewritten(folder, document, finished):
    """Write a run.json, and a journal whose hashes agree with it."""
    raw = json.dumps(document).encode()
    (folder / "run.json").write_bytes(raw)
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().splitlines()]
    lines[0]["run_sha256"] = hashlib.sha256(raw).hexdigest()
    if not finished:
        lines.pop()
        (folder / "video.mp4").unlink()
    check, whole = "", b""
    for line in lines:
        line.pop("check")
        text, check = sealed(line, check)
        whole += text
    (folder / "journal.jsonl").write_bytes(whole)


def keys(value, at=()):
    """Every place in a JSON document."""
    if at:
        yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from keys(value[key], (*at, key))


def odd_settings(folder, rng):
    """Another value, or no value, or one key more anywhere in run.json, with a journal that vouches for it."""
    document = json.loads((folder / "run.json").read_text())
    *path, last = rng.choice(list(keys(document)))
    inner = document
    for key in path:
        inner = inner[key]
    how = rng.random()
    if how < 0.8 or isinstance(inner, list):
        inner[last] = copy.deepcopy(rng.choice(VALUES))
    elif how < 0.9:
        del inner[last]
    else:
        inner["more"] = rng.choice(VALUES)
    rewritten(folder, document, rng.random() < 0.5)


def odd_bytes(folder, rng):
    """Flipped, cut, repeated or other bytes in one file."""
    path = folder / rng.choice([*NAMES, *(f"snapshots/{each.name}" for each in (folder / "snapshots").iterdir())])
    data = bytearray(path.read_bytes() if path.exists() else b"{}\n")
    at = rng.randrange(len(data))
    changes = [
        lambda: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
        lambda: data[:at],
        lambda: data + data,
        lambda: rng.randbytes(200),
        lambda: b"[" * 100_000,
        lambda: b'{"a":' * 50_000 + b"\n",
        lambda: json.dumps(rng.choice(VALUES)).encode() + b"\n",
        lambda: b"",
    ]
    path.write_bytes(bytes(rng.choice(changes)()))


def odd_entries(folder, rng):
    """A link, a pipe or a folder in the place of a file, or nothing."""
    path = folder / rng.choice([*NAMES, "LOCK", "video.mp4", "sheet.png", "media/s000000.m4s", "snapshots", "media"])
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    outside = folder.parent / "outside" / "x"
    rng.choice([
        lambda: os.symlink(outside, path), lambda: os.symlink(outside.parent, path), lambda: os.mkfifo(path),
        lambda: path.mkdir(), lambda: None, lambda: os.symlink("/dev/zero", path),
    ])()  # fmt: skip


@pytest.mark.parametrize("damage", [odd_settings, odd_bytes, odd_entries], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("seed", range(50))
def test_damage_ends_in_a_sentence(made, tmp_path, damage, seed, capsys):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("precious")
    for number, command in enumerate(COMMANDS):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        damage(folder, random.Random(f"{damage.__name__} {seed}"))
        start = time.monotonic()
        code = longtake([command[0], str(folder), *command[1:]])
        out, error = capsys.readouterr()
        assert time.monotonic() - start < SECONDS and code in (0, 1, 2), number
        if code and not (command == ["verify"] and "BAD" in out):
            assert error.startswith("longtake: ") and len(error) > 30 and "Traceback" not in error
        assert {path.name: path.read_text() for path in outside.iterdir()} == {"x": "precious"}
        assert sha(outside / "x") == hashlib.sha256(b"precious").hexdigest()
