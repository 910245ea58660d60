"""Models and LoRAs by names inside the folders that the operator gave, and by nothing else."""

import pytest
import torch
from safetensors.torch import save_file
from starlette.testclient import TestClient

from longtake.runs.jobs.queue import JobQueue
from longtake.server.app import create_app
from longtake.server.errors import ApiError
from longtake.server.requests.catalogue import Catalogue
from longtake.server.requests.model_files import ModelFiles

LORA = {"blocks.0.attn.lora_A.weight": torch.zeros(2, 4), "blocks.0.attn.lora_B.weight": torch.zeros(4, 2)}


@pytest.fixture
def folder(tmp_path):
    """A folder as ComfyUI has it, with a link out of it."""
    root = tmp_path / "models"
    for name in ("diffusion_models/wan", "loras/styles", "vae", "mine"):
        (root / name).mkdir(parents=True)
    save_file({"blocks.0.weight": torch.zeros(2)}, root / "diffusion_models" / "wan" / "a.safetensors")
    save_file({"decoder.weight": torch.zeros(2)}, root / "vae" / "v.safetensors")
    save_file(LORA, root / "loras" / "styles" / "ink.safetensors")
    (root / "mine" / "longtake.json").write_text("{}")
    outside = tmp_path / "outside"
    outside.mkdir()
    save_file(LORA, outside / "secret.safetensors")
    save_file({"x": torch.zeros(1)}, outside / "secret-model.safetensors")
    (root / "loras" / "linked.safetensors").symlink_to(outside / "secret.safetensors")
    (root / "linked.safetensors").symlink_to(outside / "secret-model.safetensors")
    (root / "folder").symlink_to(outside)
    (root / "half").mkdir()
    (root / "half" / "model_index.json").write_text("{}")
    (root / "half" / "weights.safetensors").symlink_to(outside / "secret-model.safetensors")
    (root / "loras" / "again.safetensors").symlink_to(root / "loras" / "styles" / "ink.safetensors")
    return root


def test_what_is_found(folder):
    files = ModelFiles([folder])
    assert list(files.checkpoints()) == ["diffusion_models/wan/a.safetensors", "mine"]
    assert list(files.loras()) == ["again.safetensors", "styles/ink.safetensors"]
    assert ModelFiles([folder / "none"]).checkpoints() == {}


def test_names_stand_for_files(folder):
    catalogue = Catalogue(ModelFiles([folder]))
    assert catalogue.model("mine") == str(folder / "mine") and catalogue.model("pocket") == "pocket"
    assert catalogue.lora("styles/ink.safetensors") == str(folder / "loras" / "styles" / "ink.safetensors")


@pytest.mark.parametrize(
    "name", ["../outside/secret-model.safetensors", "linked.safetensors", "folder/secret-model.safetensors", "half", "", ".",
             "/etc/passwd", "mine/", "mine/../mine", "mine\0", "pocket/../../x"]
)  # fmt: skip
def test_other_names_are_not_there(folder, name):
    """InvokeAI GHSA-vv9c-xxg7-wmv7: names of models that lead out of the folder."""
    catalogue = Catalogue(ModelFiles([folder]))
    for look_up in (catalogue.model, catalogue.lora):
        with pytest.raises(ApiError):
            look_up(name)


@pytest.fixture
def client(tmp_path, folder):
    with JobQueue(tmp_path / "videos") as queue:
        files = ModelFiles([folder], queue.store.own / "loras")
        with TestClient(create_app(queue, Catalogue(files))) as client:
            yield client


def test_models_are_listed(client):
    models = {one["id"]: one for one in client.get("/v1/models").json()["data"]}
    assert models["pocket"]["here"] and models["mine"]["kind"] == "local" and models["clock"]["kind"] == "toy"
    released = next(one for one in models.values() if one.get("repository"))
    assert not released["here"] and released["licence"] and sum(released["memory_gb"]["weights"].values()) > 1
    assert client.get("/v1/models/diffusion_models/wan/a.safetensors").json()["kind"] == "local"
    assert client.get("/v1/models/none").json()["error"]["code"] == "model_not_found"


def test_a_lora_is_sent_used_and_deleted(client, tmp_path):
    save_file(LORA, tmp_path / "a")
    added = client.post("/v1/loras", files={"file": ("../../x.exe", (tmp_path / "a").read_bytes())}).json()
    assert "id" in added, added
    assert added["id"] in {one["id"] for one in client.get("/v1/loras").json()["data"]}
    asked = client.post("/v1/videos", json={"prompt": "a", "model": "pocket", "loras": [[added["id"], 0.5]]})
    assert asked.status_code == 200, asked.text
    assert client.delete(f"/v1/loras/{added['id']}").json()["deleted"]
    assert client.delete(f"/v1/loras/{added['id']}").status_code == 404


@pytest.mark.long
def test_a_pickle_is_converted_in_a_child(client, tmp_path):
    """InvokeAI CVE-2024-12029: installing a model called torch.load on it."""
    torch.save(LORA, tmp_path / "a.pt")
    added = client.post("/v1/loras", files={"file": ("a.pt", (tmp_path / "a.pt").read_bytes())})
    assert added.status_code == 200, added.text
    evil = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R."
    assert client.post("/v1/loras", files={"file": ("a", evil)}).json()["error"]["code"] == "invalid_file"


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b'\x10\0\0\0\0\0\0\0{"a": 1}       '])
def test_what_is_no_lora_is_refused(client, data):
    assert client.post("/v1/loras", files={"file": ("a.safetensors", data)}).status_code in (400, 415)
    listed = client.get("/v1/loras").json()["data"]
    assert {one["id"] for one in listed} == {"again.safetensors", "styles/ink.safetensors"}


def test_a_checkpoint_is_no_lora(client, tmp_path):
    save_file({"blocks.0.weight": torch.zeros(2)}, tmp_path / "a")
    refused = client.post("/v1/loras", files={"file": ("a", (tmp_path / "a").read_bytes())})
    assert refused.json()["error"]["code"] == "invalid_file"
