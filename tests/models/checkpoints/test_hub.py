"""Hub models are downloaded at a commit, after `on_download`, and never as pickles; here without a network."""

import importlib
from types import SimpleNamespace

import pytest

from longtake.models import load
from longtake.models.checkpoints import hub
from longtake.models.checkpoints.hub import DownloadInfo, HubError, download_info, fetch, is_id
from longtake.pipelines.settings.run_settings import RunSettings
from tests import released

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = "Wan-AI/Wan2.1-T2V-14B-Diffusers"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A fake hub with one repository; `calls` lists the requests to it."""
    library = importlib.import_module("huggingface_hub")
    sizes = {
        "model_index.json": 10,
        "vae/x.safetensors": 500,
        "old/model.pth": 10_000,
        "run.py": 3,
        "tokenizer/spiece.model": 5,
    }
    files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
    state = SimpleNamespace(calls=[], files=files, folder=tmp_path / "snapshots" / SHA, error=None)

    def model_info(self, repo, revision=None, files_metadata=False):
        state.calls.append(("info", repo, revision))
        if state.error:
            raise state.error
        return SimpleNamespace(sha=SHA, siblings=files, card_data=SimpleNamespace(license="apache-2.0"))

    def snapshot_download(repo, revision=None, allow_patterns=None, local_files_only=False):
        state.calls.append(("files", repo, revision, allow_patterns, local_files_only))
        if state.error:
            raise state.error
        return str(state.folder)

    monkeypatch.setattr(library.HfApi, "model_info", model_info)
    monkeypatch.setattr(library, "snapshot_download", snapshot_download)
    monkeypatch.setattr(importlib.import_module("huggingface_hub.constants"), "HF_HUB_CACHE", str(tmp_path / "cache"))
    return state


def test_on_download_gets_size_and_licence_before_the_download(server):
    downloads = []
    path = fetch(REPO, on_download=lambda download_info: downloads.append((download_info, len(server.calls))))
    assert path == server.folder
    assert downloads == [(DownloadInfo(REPO, SHA, 3, 515, "apache-2.0"), 1)]
    kind, repo, revision, patterns, offline = server.calls[1]
    assert (kind, repo, revision, offline) == ("files", REPO, SHA, False)
    assert "*.safetensors" in patterns and not any("pth" in p or "py" in p or p == "*" for p in patterns)


def test_single_files_beside_a_pipeline_are_not_downloaded(server):
    server.files += [SimpleNamespace(rfilename="ltxv-13b.safetensors", size=26_000)]
    downloads = []
    fetch("Lightricks/LTX-Video", on_download=downloads.append)
    assert (downloads[0].files, downloads[0].bytes) == (3, 515)
    assert server.calls[1][3] == ["*/*.safetensors", "*.json", "*/*.txt", "*/*.model"]


def test_on_download_can_stop_the_download(server):
    def stop(download_info):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(REPO, on_download=stop)
    assert [call[0] for call in server.calls] == ["info"]


def test_offline_makes_no_request(server):
    assert fetch(REPO, "v1", offline=True) == server.folder
    assert server.calls == [("files", REPO, "v1", None, True)]


def test_every_failure_is_one_sentence(server, monkeypatch):
    errors = importlib.import_module("huggingface_hub.errors")
    made = lambda kind: kind.__new__(kind)
    for error, words in (
        (made(errors.RepositoryNotFoundError), "has no model .*, and there is no folder"),
        (made(errors.GatedRepoError), "accept its terms"),
        (ConnectionError("no route"), "cannot be reached .*ConnectionError"),
    ):
        server.error = error
        with pytest.raises(HubError, match=words):
            download_info(REPO)
    server.error = made(errors.LocalEntryNotFoundError)
    with pytest.raises(HubError, match="was not downloaded before"):
        fetch(REPO, offline=True)
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(HubError, match="install huggingface_hub"):
        fetch(REPO)


def test_hub_ids_are_recognised_by_their_form():
    assert is_id("Wan-AI/Wan2.1-T2V-14B") and is_id("a/b")
    assert not any(map(is_id, ("pocket", "/a/b", "./a", "a/b/c", "../b", "a/", "a\\b", "C:/x")))


def test_a_hub_model_is_opened_and_found_again_by_its_name(server, monkeypatch):
    """The preset is known from the id; run.json names commit and preset, so that resume needs no network."""
    made = released.parts("t2v")
    released.diffusers(server.folder, made)
    model = load("Some/Model")
    assert model.name == f"Some/Model@{SHA[:12]}" and model.info.source == ""
    assert RunSettings.of(model, "a ball", seconds=1).model == str(server.folder)
    with pytest.raises(ValueError, match="is not wan2"):  # the preset of the id is larger than this
        load(REPO)
    assert server.calls[-1][1] == REPO


def test_the_preset_named_for_a_path_is_part_of_the_source(monkeypatch, tmp_path):
    """`PRESET=PATH` is found again under the same name."""
    from longtake.models.wan import checkpoint

    folder = released.diffusers(tmp_path / "m", released.parts("t2v"))
    seen = []
    opened = checkpoint.open_folder
    monkeypatch.setattr(
        checkpoint, "open_folder", lambda path, load_options, preset: seen.append(preset) or opened(path)
    )
    model = load(f"wan2.1-t2v-14b={folder}")
    assert seen[0].name == "wan2.1-t2v-14b"
    assert model.info.source == f"wan2.1-t2v-14b={folder.resolve()}"
    assert RunSettings.of(model, "a ball", seconds=1).model == model.info.source
    assert (model.defaults.solver, model.info.builtin) == ("unipc", False)
