"""The cache of latents: entries are read back, the limit holds, the least recently used go first, damage is survived."""

import os

import pytest
import torch
from safetensors import SafetensorError

from longtake.train.datasets import latent_cache
from longtake.train.datasets.latent_cache import OVERHEAD, STALE, CacheError, LatentCache

ENTRY = torch.arange(512, dtype=torch.float16).reshape(2, 4, 8, 8)
SIZE = ENTRY.numel() * 2 + OVERHEAD


def age(cache, key, seconds):
    """Make an entry look as if it was last used that long ago."""
    path = cache.folder / f"{key}.safetensors"
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def held(cache):
    return {path.stem for path in cache.folder.glob("*.safetensors")}


def test_an_entry_is_read_back(tmp_path):
    cache = LatentCache(tmp_path / "deep" / "latents", 10 * SIZE)
    assert cache.get("a") is None and not cache.has("a")
    cache.put("a", ENTRY)
    assert cache.has("a") and torch.equal(LatentCache(cache.folder, 0).get("a"), ENTRY)
    assert os.stat(cache.folder / "a.safetensors").st_size <= SIZE


def test_the_least_recently_used_goes_first(tmp_path):
    cache = LatentCache(tmp_path, 3 * SIZE)
    for number, key in enumerate("abc"):
        cache.put(key, ENTRY)
        age(cache, key, 100 - number)
    cache.get("a")
    cache.put("d", ENTRY)
    assert held(cache) == {"a", "c", "d"}
    cache.has("c")
    age(cache, "a", 50)
    cache.put("e", ENTRY)
    assert held(cache) == {"c", "d", "e"}


def test_the_limit_holds_after_every_write(tmp_path):
    cache = LatentCache(tmp_path, 5 * SIZE)
    for number in range(40):
        cache.put(f"{number}", ENTRY[: 1 + number % 2])
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= cache.limit
    assert len(held(cache)) >= 5
    cache.put("huge", ENTRY.repeat(20, 1, 1, 1))
    assert not cache.has("huge") and len(held(cache)) >= 5


def test_the_folder_is_listed_only_near_the_limit(tmp_path, monkeypatch):
    listings, scan = [], os.scandir
    monkeypatch.setattr(latent_cache.os, "scandir", lambda folder: listings.append(folder) or scan(folder))
    some = [LatentCache(tmp_path, 400 * SIZE) for _ in range(4)]
    for number in range(300):
        some[number % 4].put(f"{number}", ENTRY)
    assert len(listings) < 60 and len(held(some[0])) == 300
    for number in range(300, 600):
        some[number % 4].put(f"{number}", ENTRY)
        assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= some[0].limit


def test_a_smaller_limit_holds_after_the_next_write(tmp_path):
    for key in "abcde":
        LatentCache(tmp_path, 5 * SIZE).put(key, ENTRY)
    small = LatentCache(tmp_path, 2 * SIZE)
    small.put("f", ENTRY)
    assert len(held(small)) == 2 and small.has("f")


def test_a_damaged_entry_counts_as_missing(tmp_path):
    cache = LatentCache(tmp_path, 9 * SIZE)
    cache.put("a", ENTRY)
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert cache.get("a") is None and not cache.has("a")
    cache.put("a", ENTRY)
    assert torch.equal(cache.get("a"), ENTRY)


def test_unfinished_files_of_killed_processes_are_deleted(tmp_path):
    for name, seconds in (("old", 2 * STALE), ("new", 5)):
        (tmp_path / f"{name}.1.part").write_bytes(b"x" * 2 * SIZE)
        then = (tmp_path / f"{name}.1.part").stat().st_mtime - seconds
        os.utime(tmp_path / f"{name}.1.part", (then, then))
    LatentCache(tmp_path, 2 * SIZE).put("a", ENTRY)
    assert {path.name for path in tmp_path.iterdir()} == {"new.1.part", "a.safetensors"}


def test_a_full_disk_is_reported_and_leaves_no_partial_file(tmp_path, monkeypatch):
    def no_room(tensors, path):
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(latent_cache, "save_file", no_room)
    with pytest.raises(CacheError, match=r"No space left on device\. Free some space there"):
        LatentCache(tmp_path, 9 * SIZE).put("a", ENTRY)
    assert not list(tmp_path.iterdir())
