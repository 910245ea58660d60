"""inspect, convert and models of the command line; a download is announced with its size, licence and memory."""

import json
from types import SimpleNamespace

import pytest
import torch

from longtake.cli import run
from longtake.models.hub import Offer
from longtake.models.presets import PRESETS
from tests import released


def test_inspect(tmp_path, capsys):
    folder = released.diffusers(tmp_path / "m", released.parts("t2v"))
    assert run(["inspect", str(folder)]) == 0
    assert "text to video" in capsys.readouterr().out
    assert run(["inspect", str(folder), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "t2v"
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer").rmdir()
    assert run(["inspect", str(folder)]) == 1
    assert "missing: tokenizer" in capsys.readouterr().out
    assert run(["inspect", str(folder), "--preset", "wan2.1-t2v-1.3b"]) == 2
    assert "is no wan2.1-t2v-1.3b" in capsys.readouterr().err
    assert run(["inspect", str(tmp_path / "nothing")]) == 2
    assert "there is nothing at" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["inspect", str(tmp_path / "empty")]) == 2
    assert "is no checkpoint" in capsys.readouterr().err


def test_convert(tmp_path, capsys):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pth")
    assert run(["convert", str(tmp_path / "x.pth")]) == 0
    assert "SHA-256" in capsys.readouterr().out and (tmp_path / "x.safetensors").exists()
    assert run(["convert", str(tmp_path / "x.pth")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_released_models_are_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in PRESETS)
    assert "51 GB" in out and "14.7 GB" in out and "skywork-license" in out


@pytest.mark.parametrize("repo", ["Wan-AI/Wan2.1-T2V-14B-Diffusers", "Some/Model"])
def test_a_download_is_announced(repo, monkeypatch, capsys):
    from longtake.models import hub

    monkeypatch.setattr(hub, "offer", lambda repo, revision: Offer(repo, "0" * 40, 14, 69_000_000_000, "apache-2.0"))
    errors = SimpleNamespace(LocalEntryNotFoundError=KeyError)
    stop = lambda *args, **kwargs: (_ for _ in ()).throw(hub.HubError("the end"))
    monkeypatch.setattr(hub, "_library", lambda repo: SimpleNamespace(snapshot_download=stop, errors=errors))
    assert run(["generate", "a ball", "--model", repo, "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert f"{repo} at 000000000000: 69.0 GB in 14 files, licence apache-2.0" in told
    assert ("weights in memory: 40.4 GB (network 28.6" in told) == repo.startswith("Wan")
    assert "the end" in told
    assert run(["generate", "a ball", "--model", repo, "--dry-run", "--offline"]) == 2
    assert "licence" not in capsys.readouterr().err
