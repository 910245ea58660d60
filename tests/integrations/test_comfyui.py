"""The node pack for ComfyUI, loaded as ComfyUI loads a folder of custom nodes, against a running server."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
import torch

import longtake
from longtake.runs.jobs.queue import JobQueue
from longtake.server.app import create_app, guarded
from longtake.server.security import Access
from tests.runs.jobs.queues import FAKE, until
from tests.server.serving import served

PACK = Path(longtake.__file__).parents[2] / "integrations" / "comfyui"


class Interrupted(Exception):
    """What ComfyUI raises where a user interrupts a prompt."""


class Comfy:
    """The parts of ComfyUI that nodes use. bars: the updates of all progress bars; interrupt: whether to raise."""

    def __init__(self, output: Path):
        self.output, self.bars, self.interrupt = output, [], lambda: False

    def modules(self):
        def check():
            if self.interrupt():
                raise Interrupted

        def bar(total):
            return types.SimpleNamespace(update_absolute=lambda *update: self.bars.append(update))

        made = {
            name: types.ModuleType(name) for name in ("comfy", "comfy.model_management", "comfy.utils", "folder_paths")
        }
        made["comfy.model_management"].throw_exception_if_processing_interrupted = check
        made["comfy.utils"].ProgressBar = bar
        made["folder_paths"].get_output_directory = lambda: str(self.output)
        made["comfy"].model_management, made["comfy"].utils = made["comfy.model_management"], made["comfy.utils"]
        return made


@pytest.fixture
def comfy(tmp_path, monkeypatch):
    """ComfyUI, as far as a node sees it."""
    made = Comfy(tmp_path / "comfy")
    for name, module in made.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture(scope="module")
def pack():
    """The package of the folder, under a name as ComfyUI gives it."""
    spec = importlib.util.spec_from_file_location(
        "custom_nodes_longtake", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.startswith(spec.name)]:
        del sys.modules[name]


def node(pack, name):
    """A node, and a function that calls it with the defaults of its inputs, as ComfyUI does."""
    kind = pack.NODE_CLASS_MAPPINGS[name]

    def call(**given):
        inputs = kind.INPUT_TYPES()
        defaults = {
            name: row[1]["default"] for group in inputs.values() for name, row in group.items() if "default" in row[1]
        }
        assert given.keys() <= {name for group in inputs.values() for name in group}
        return getattr(kind(), kind.FUNCTION)(**{**defaults, **given})

    return call


def test_every_node_keeps_the_conventions(pack):
    assert pack.NODE_CLASS_MAPPINGS.keys() == pack.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for kind in pack.NODE_CLASS_MAPPINGS.values():
        inputs = kind.INPUT_TYPES()
        assert inputs.keys() <= {"required", "optional", "hidden"} and callable(getattr(kind, kind.FUNCTION))
        assert isinstance(kind.RETURN_TYPES, tuple) and len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
        for row in (row for group in inputs.values() for row in group.values()):
            assert isinstance(row, tuple) and isinstance(row[0], str | list)
    imported = "".join(path.read_text() for path in PACK.glob("*.py"))
    assert "import requests" not in imported and "import longtake" not in imported


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server with a worker that generates."""
    with JobQueue(tmp_path_factory.mktemp("server")) as queue:
        queue.start(["cpu"])
        with served(create_app(queue)) as address:
            yield address


@pytest.mark.long
def test_a_timeline_with_an_image_is_generated_and_extended(pack, comfy, server):
    scene, generate, extend = (node(pack, f"Longtake{name}") for name in ("Timeline", "Generate", "Extend"))
    (first,) = scene(prompt="a red ball", seconds=0.5)
    (timeline,) = scene(prompt="a blue star", seconds=0.5, cut="cut", before=first)
    assert [one["cut"] for one in timeline] == [False, True]
    small = dict(server=server, steps=1)
    made = generate(timeline=timeline, image=torch.full((1, 64, 64, 4), 0.5), seed=3, **small)
    frames, video, fps, id, path, sheet = made["result"]
    assert frames.shape == (24, 64, 64, 3) and frames.dtype == torch.float32 and 0 <= frames.min() <= frames.max() <= 1
    assert abs(frames[0].mean() - 0.5) < 0.1 and fps == 24.0 and video is None and sheet.shape[0] == 1
    assert made["ui"]["images"] == [{"filename": f"{id}.mp4", "subfolder": "longtake", "type": "output"}]
    assert longtake.read_settings(path).settings.seed == 3
    assert comfy.bars[-1][:2] == (100, 100) and any(update[2] and update[2][0] == "JPEG" for update in comfy.bars)
    more = extend(video_id=id, prompt="a green heart", seconds=0.5, images=5, **small)["result"]
    assert more[0].shape == (5, 64, 64, 3) and longtake.read_settings(more[4]).frames == 36
    with pytest.raises(RuntimeError, match="overlapp"):
        generate(prompt="a", options=json.dumps({"overlapp": 9}), **small)


def test_an_interrupt_stops_the_video(pack, comfy, tmp_path):
    with JobQueue(tmp_path / "out") as queue:
        queue.start(["cpu"], FAKE)
        with served(create_app(queue)) as address:
            jobs = lambda: queue.page().jobs
            comfy.interrupt = lambda: (
                jobs() and (queue.progress(jobs()[0].id) or types.SimpleNamespace(frames=0)).frames > 2
            )
            with pytest.raises(Interrupted):
                node(pack, "LongtakeGenerate")(prompt="4000 slow", server=address)
            until(lambda: jobs()[0].status.state == "completed")
            assert jobs()[0].status.stopped
            comfy.interrupt = lambda: False
            with pytest.raises(RuntimeError, match="it failed"):
                node(pack, "LongtakeGenerate")(prompt="3 fail", server=address)


def test_no_server_a_wrong_id_and_wrong_options_are_said(pack, comfy, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    generate, extend = node(pack, "LongtakeGenerate"), node(pack, "LongtakeExtend")
    with pytest.raises(RuntimeError, match="start one with `longtake serve`"):
        generate(prompt="a", server="http://127.0.0.1:9")
    for wrong in ("../../etc/passwd", "", "a b"):
        with pytest.raises(RuntimeError, match="is not the id of a video"):
            extend(video_id=wrong, prompt="a")
    for wrong in ("file:///etc/passwd", "127.0.0.1:8000", "ftp://x"):
        with pytest.raises(RuntimeError, match="the address of a longtake server"):
            generate(prompt="a", server=wrong)
    for wrong in ("[1]", "{"):
        with pytest.raises(RuntimeError, match="options are a JSON object"):
            generate(prompt="a", options=wrong)


def test_the_token_is_sent_to_the_users_own_server_alone(pack, comfy, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    client = sys.modules[f"{pack.__name__}.client"].Client
    with JobQueue(tmp_path / "out") as queue, served(guarded(create_app(queue), Access("secret", 0))) as address:
        monkeypatch.setenv("LONGTAKE_TOKEN", "secret")
        monkeypatch.setenv("LONGTAKE_URL", address + "/v1/")
        assert client().create({"prompt": "3 frames"})["status"] == "queued"
        monkeypatch.setenv("LONGTAKE_URL", "http://127.0.0.1:9")
        with pytest.raises(RuntimeError) as error:
            client(address).create({"prompt": "3 frames"})
        assert error.value.status == 401
