"""Models of the hub are fetched at a commit, after their size was told, and never as pickles; here without a network."""

import importlib
from types import SimpleNamespace

import pytest

from longtake.models import hub, load
from longtake.models.hub import HubError, Offer, fetch, is_id, offer
from longtake.settings import Settings
from tests import released

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = "Wan-AI/Wan2.1-T2V-14B-Diffusers"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A hub of one repository; `calls` are what was asked of it."""
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
    return state


def test_size_and_licence_are_told_before_the_download(server):
    told = []
    path = fetch(REPO, announce=lambda offer: told.append((offer, len(server.calls))))
    assert path == server.folder
    assert told == [(Offer(REPO, SHA, 3, 515, "apache-2.0"), 1)]
    kind, repo, revision, patterns, offline = server.calls[1]
    assert (kind, repo, revision, offline) == ("files", REPO, SHA, False)
    assert "*.safetensors" in patterns and not any("pth" in p or "py" in p or p == "*" for p in patterns)


def test_single_files_beside_a_pipeline_are_left(server):
    server.files += [SimpleNamespace(rfilename="ltxv-13b.safetensors", size=26_000)]
    told = []
    fetch("Lightricks/LTX-Video", announce=told.append)
    assert (told[0].files, told[0].bytes) == (3, 515)
    assert server.calls[1][3] == ["*/*.safetensors", "*.json", "*/*.txt", "*/*.model"]


def test_an_announcement_may_stop_it(server):
    def stop(offer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(REPO, announce=stop)
    assert [call[0] for call in server.calls] == ["info"]


def test_offline_asks_nobody(server):
    assert fetch(REPO, "v1", offline=True) == server.folder
    assert server.calls == [("files", REPO, "v1", None, True)]


def test_failures_are_one_sentence(server, monkeypatch):
    errors = importlib.import_module("huggingface_hub.errors")
    made = lambda kind: kind.__new__(kind)
    for error, words in (
        (made(errors.RepositoryNotFoundError), "has no model .*, and there is no folder"),
        (made(errors.GatedRepoError), "accept its terms"),
        (ConnectionError("no route"), "cannot be reached .*ConnectionError"),
    ):
        server.error = error
        with pytest.raises(HubError, match=words):
            offer(REPO)
    server.error = made(errors.LocalEntryNotFoundError)
    with pytest.raises(HubError, match="was not downloaded before"):
        fetch(REPO, offline=True)
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(HubError, match="install huggingface_hub"):
        fetch(REPO)


def test_what_looks_like_an_id():
    assert is_id("Wan-AI/Wan2.1-T2V-14B") and is_id("a/b")
    assert not any(map(is_id, ("pocket", "/a/b", "./a", "a/b/c", "../b", "a/", "a\\b", "C:/x")))


def test_a_model_of_the_hub_is_opened_and_found_again(server, monkeypatch):
    """The preset is known from the id; run.json names commit and preset, so that resume needs no network."""
    made = released.parts("t2v")
    released.diffusers(server.folder, made)
    model = load("Some/Model")
    assert model.name == f"Some/Model@{SHA[:12]}" and model.source == ""
    assert Settings.resolve(model, "a ball", seconds=1).model == str(server.folder)
    with pytest.raises(ValueError, match="is no wan2"):  # the preset that belongs to the id is not this small
        load(REPO)
    assert server.calls[-1][1] == REPO


def test_a_preset_is_remembered(monkeypatch, tmp_path):
    """What is named for a path stays with it."""
    import longtake.models as models

    folder = released.diffusers(tmp_path / "m", released.parts("t2v"))
    seen = []
    opened = models._family("wan")
    monkeypatch.setattr(models, "_family", lambda name: lambda path, preset: seen.append(preset) or opened(path))
    model = load(f"wan2.1-t2v-14b={folder}")
    assert seen[0].name == "wan2.1-t2v-14b"
    assert model.source == f"wan2.1-t2v-14b={folder.resolve()}"
    assert Settings.resolve(model, "a ball", seconds=1).model == model.source
    assert (model.solver, model.builtin) == ("unipc", False)
