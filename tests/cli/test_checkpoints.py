"""The commands inspect, convert and models; a download is announced with its size, licence and memory."""

import json
from types import SimpleNamespace

import pytest
import torch

from longtake.cli import run
from longtake.models.checkpoints.hub import DownloadInfo
from longtake.models.registry import presets
from tests import released


def test_inspect_prints_the_report(tmp_path, capsys):
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
    assert "is not wan2.1-t2v-1.3b" in capsys.readouterr().err
    assert run(["inspect", str(tmp_path / "nothing")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["inspect", str(tmp_path / "empty")]) == 2
    assert "is no checkpoint" in capsys.readouterr().err


def test_convert_writes_safetensors(tmp_path, capsys):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pth")
    assert run(["convert", str(tmp_path / "x.pth")]) == 0
    assert "SHA-256" in capsys.readouterr().out and (tmp_path / "x.safetensors").exists()
    assert run(["convert", str(tmp_path / "x.pth")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_released_models_are_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in presets())
    assert "51 GB" in out and "14.7 GB" in out and "skywork-license" in out


@pytest.mark.parametrize("repo", ["Wan-AI/Wan2.1-T2V-14B-Diffusers", "Some/Model"])
def test_a_download_is_announced(repo, monkeypatch, capsys, tmp_path):
    from huggingface_hub import constants

    from longtake.models.checkpoints import hub

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    monkeypatch.setattr(
        hub, "download_info", lambda repo, revision: DownloadInfo(repo, "0" * 40, 14, 69_000_000_000, "apache-2.0")
    )
    errors = SimpleNamespace(LocalEntryNotFoundError=KeyError)
    stop = lambda *args, **kwargs: (_ for _ in ()).throw(hub.HubError("the end"))
    monkeypatch.setattr(hub, "_library", lambda repo: SimpleNamespace(snapshot_download=stop, errors=errors))
    assert run(["generate", "a ball", "--model", repo, "--dry-run"]) == 2
    shown = capsys.readouterr().err
    assert f"{repo} at 000000000000: 69.0 GB in 14 files, licence apache-2.0" in shown
    assert ("weights in memory: 40.4 GB (network 28.6" in shown) == repo.startswith("Wan")
    assert "the end" in shown
    assert run(["generate", "a ball", "--model", repo, "--dry-run", "--offline"]) == 2
    assert "licence" not in capsys.readouterr().err


@pytest.mark.parametrize(("name", "words"), [
    ("./nothing", "there is no folder ./nothing (looked in"),
    ("{}/wna", "did you mean {}/wan?"),
    ("{}/deep/er/still", "there is no {}/deep"),
    ("{}/wan/x.safetensors", "there is no file {}/wan/x.safetensors"),
    ("{}/circle", "{}/circle is a link to a place where nothing is"),
    ("pokcet", "did you mean 'pocket'?"),
    ("ltx-2b", "did you mean 'ltx-2b-0.9.5'?"),
])  # fmt: skip
def test_a_path_at_which_nothing_is_is_no_misspelt_model(capsys, tmp_path, name, words):
    (tmp_path / "wan").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert run(["generate", "a", "--model", name.format(tmp_path), "--device", "cpu", "-o", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert words.format(tmp_path) in error and ("pocket" in error) == ("pocket" in words)


@pytest.mark.parametrize(("name", "files"), [
    ("svi-film", ["Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "version-1.0/svi-film-opt-10212025.safetensors"]),
    ("svi-2.0-pro", ["Wan-AI/Wan2.2-I2V-A14B-Diffusers", "--lora high:svi/version-2.0/", "--lora low:svi/version-2.0/"]),
])  # fmt: skip
def test_a_preset_of_two_downloads_names_both(capsys, name, files):
    assert run(["generate", "a", "--model", name, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert all(file in error for file in [*files, f"--model {name}=", "hf download vita-video-gen/svi-model"])
