"""Files of other tools: what they say about a prompt, a seed, a size and steps is recognised."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from longtake.cli import run
from longtake.media.finished.save_video import save_video
from longtake.pipelines.carried.other_tools import other_settings

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 77, "steps": 20, "cfg": 6.0, "positive": ["50", 0], "negative": ["7", 0]}},
    "50": {"class_type": "WanImageToVideo", "inputs": {"positive": ["6", 0], "negative": ["7", 0], "width": 832, "height": 480, "length": 81}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["9", 0], "clip": ["38", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry"}},
    "9": {"class_type": "PrimitiveString", "inputs": {"value": "a fox in the snow"}},
}  # fmt: skip
FOX = {"prompt": "a fox in the snow", "negative_prompt": "blurry", "seed": 77, "num_inference_steps": 20, "guidance_scale": 6.0,
       "width": 832, "height": 480, "num_frames": 81}  # fmt: skip
WANGP = {"type": "WanGP v10.70 by DeepBeepMeep - LTX-2", "prompt": "a fox", "negative_prompt": "", "resolution": "1280x720",
         "video_length": 361, "seed": 42, "num_inference_steps": 8}  # fmt: skip
LINES = """a fox,
in the snow
Negative prompt: blurry, low
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 123, Size: 512x768, Model hash: ab, Version: "v1.9"
"""


@pytest.mark.parametrize(
    ("tags", "tool", "keywords"),
    [
        ({"prompt": json.dumps(GRAPH), "workflow": "{}"}, "ComfyUI", FOX),
        ({"comment": json.dumps({"prompt": json.dumps(GRAPH), "workflow": {}})}, "ComfyUI", FOX),
        ({"comment": json.dumps({"prompt": GRAPH})}, "ComfyUI", FOX),
        ({"workflow": json.dumps({"nodes": []})}, "ComfyUI", {}),
        ({"comment": json.dumps(WANGP)}, "Wan2GP", {"prompt": "a fox", "seed": 42, "num_inference_steps": 8, "num_frames": 361,
                                                   "width": 1280, "height": 720}),
        ({"parameters": LINES}, "AUTOMATIC1111", {"prompt": "a fox,\nin the snow", "negative_prompt": "blurry, low", "seed": 123,
                                                 "num_inference_steps": 20, "guidance_scale": 7, "width": 512, "height": 768}),
        ({"comment": json.dumps({"sui_image_params": {"prompt": "a cat", "seed": 1, "steps": 20, "cfgscale": 7.5}})}, "SwarmUI",
         {"prompt": "a cat", "seed": 1, "num_inference_steps": 20, "guidance_scale": 7.5}),
        ({"comment": json.dumps({"prompt": "a cat", "steps": "30", "width": True, "seed": -1})}, "another tool",
         {"prompt": "a cat", "num_inference_steps": 30}),
    ],
)  # fmt: skip
def test_what_other_tools_write_is_recognised(tags, tool, keywords):
    found = other_settings(tags)
    assert found is not None and (found.tool, dict(found.keywords)) == (tool, keywords)


def test_what_is_none_of_them():
    assert other_settings({}) is None
    assert other_settings({"comment": "holiday 2025", "encoder": "Lavf62"}) is None
    assert other_settings({"prompt": "[" * 10**5, "comment": "{}"}) is None


def test_graphs_in_a_circle_and_long_lines_end():
    circle = {"1": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["2", 0]}},
              "2": {"class_type": "A", "inputs": {"x": ["3", 0]}}, "3": {"class_type": "B", "inputs": {"x": ["2", 0]}}}  # fmt: skip
    found = other_settings({"prompt": json.dumps(circle)})
    assert found is not None and found.keywords == {"seed": 1}
    assert other_settings({"parameters": "Steps: 1, " + "A" * 10**6 + ": 1" * 1000}) is not None


def test_inspect_prints_a_command_to_paste_and_like_says_where_to_look(tmp_path, capsys):
    frames = [np.zeros((16, 16, 3), np.uint8)] * 2
    video = save_video(tmp_path / "w.mp4", iter(frames), 24, comment=json.dumps(WANGP | {"prompt": 'it\'s "a" $(fox)'}))
    assert run(["inspect", str(video)]) == 0
    text = capsys.readouterr().out
    assert "made by Wan2GP" in text and "--size=1280x720" in text and """'it'"'"'s "a" $(fox)'""" in text
    assert run(["generate", "--like", str(video), "-o", str(tmp_path / "no")]) == 2
    assert "`longtake inspect" in capsys.readouterr().err
    notes = PngInfo()
    notes.add_text("prompt", json.dumps(GRAPH))
    Image.new("RGB", (8, 8)).save(tmp_path / "c.png", pnginfo=notes)
    assert run(["inspect", str(tmp_path / "c.png"), "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["made_by"] == "ComfyUI" and said["keywords"] == FOX and said["settings"] is None
