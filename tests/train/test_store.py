"""The store of latents: what is put comes back, the room is kept to, the unused goes first, and damage is survived."""

import os

import pytest
import torch
from safetensors import SafetensorError

from longtake.train import store as stores
from longtake.train.store import OVERHEAD, STALE, Store, StoreError

ENTRY = torch.arange(512, dtype=torch.float16).reshape(2, 4, 8, 8)
SIZE = ENTRY.numel() * 2 + OVERHEAD


def age(store, key, seconds):
    """Make an entry look as if it was last used that long ago."""
    path = store.folder / f"{key}.safetensors"
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def held(store):
    return {path.stem for path in store.folder.glob("*.safetensors")}


def test_what_is_put_comes_back(tmp_path):
    store = Store(tmp_path / "deep" / "latents", 10 * SIZE)
    assert store.get("a") is None and not store.has("a")
    store.put("a", ENTRY)
    assert store.has("a") and torch.equal(Store(store.folder, 0).get("a"), ENTRY)
    assert os.stat(store.folder / "a.safetensors").st_size <= SIZE


def test_the_longest_unused_goes_first(tmp_path):
    store = Store(tmp_path, 3 * SIZE)
    for number, key in enumerate("abc"):
        store.put(key, ENTRY)
        age(store, key, 100 - number)
    store.get("a")
    store.put("d", ENTRY)
    assert held(store) == {"a", "c", "d"}
    store.has("c")
    age(store, "a", 50)
    store.put("e", ENTRY)
    assert held(store) == {"c", "d", "e"}


def test_the_bound_holds_whatever_comes(tmp_path):
    store = Store(tmp_path, 5 * SIZE)
    for number in range(40):
        store.put(f"{number}", ENTRY[: 1 + number % 2])
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= store.limit
    assert len(held(store)) >= 5
    store.put("huge", ENTRY.repeat(20, 1, 1, 1))
    assert not store.has("huge") and len(held(store)) >= 5


def test_the_folder_is_listed_only_near_the_limit(tmp_path, monkeypatch):
    looks, scan = [], os.scandir
    monkeypatch.setattr(stores.os, "scandir", lambda folder: looks.append(folder) or scan(folder))
    some = [Store(tmp_path, 400 * SIZE) for _ in range(4)]
    for number in range(300):
        some[number % 4].put(f"{number}", ENTRY)
    assert len(looks) < 60 and len(held(some[0])) == 300
    for number in range(300, 600):
        some[number % 4].put(f"{number}", ENTRY)
        assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= some[0].limit


def test_a_smaller_room_is_made_when_something_comes(tmp_path):
    for key in "abcde":
        Store(tmp_path, 5 * SIZE).put(key, ENTRY)
    small = Store(tmp_path, 2 * SIZE)
    small.put("f", ENTRY)
    assert len(held(small)) == 2 and small.has("f")


def test_damage_is_as_good_as_nothing(tmp_path):
    store = Store(tmp_path, 9 * SIZE)
    store.put("a", ENTRY)
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert store.get("a") is None and not store.has("a")
    store.put("a", ENTRY)
    assert torch.equal(store.get("a"), ENTRY)


def test_leftovers_of_killed_processes_go_and_those_at_work_stay(tmp_path):
    for name, seconds in (("old", 2 * STALE), ("new", 5)):
        (tmp_path / f"{name}.1.part").write_bytes(b"x" * 2 * SIZE)
        then = (tmp_path / f"{name}.1.part").stat().st_mtime - seconds
        os.utime(tmp_path / f"{name}.1.part", (then, then))
    Store(tmp_path, 2 * SIZE).put("a", ENTRY)
    assert {path.name for path in tmp_path.iterdir()} == {"new.1.part", "a.safetensors"}


def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path, monkeypatch):
    def no_room(tensors, path):
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(stores, "save_file", no_room)
    with pytest.raises(StoreError, match=r"No space left on device\. Make room there"):
        Store(tmp_path, 9 * SIZE).put("a", ENTRY)
    assert not list(tmp_path.iterdir())
