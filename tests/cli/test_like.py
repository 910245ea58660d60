"""`generate --like VIDEO`: the settings that a video carries, and flags that replace them, make it again byte for byte."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
import torch
from PIL import Image

import longtake
from longtake.cli import run
from longtake.media.metadata import read_tags
from longtake.runs import PromptStream, SegmentWritten
from tests.checkpoints import random_wan
from tests.pipelines.settings.test_loras import lora

SHORT = ["--steps", "1", "--threads", "1"]
TOY = [*SHORT, "--model", "clock"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder, and leave torch with the threads that it had."""
    before = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(before)


def made(*words, into="first"):
    assert run([*map(str, words), "-o", into]) == 0
    return f"{into}/video.mp4"


def sha(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def segments(folder):
    return [(path.name, sha(path)) for path in sorted((folder / "media").iterdir())]


def carried(path):
    return json.loads(read_tags(path)["comment"])


def error_of(capsys, *words):
    capsys.readouterr()
    assert run([*map(str, words), "-o", "refused"]) == 2
    return capsys.readouterr().err


STORY = """abrupt = 1.5
[[scene]]
prompt = "ein rötlicher Ball rollt; 赤いボール 🎈"
seconds = 2
[[scene]]
prompt = "a blue star \\"at night\\""
seconds = 1.5
cut = "anchor"
"""


@pytest.mark.parametrize(
    "options",
    [["--strategy", "continuous", "--seed", "5", *TOY], ["--overlap", "9", "--negative-prompt", "grau", *SHORT]],
    ids=lambda options: options[1],
)
def test_a_story_is_made_again_to_the_same_bytes(here, options):
    (here / "story.toml").write_text(STORY, encoding="utf-8")
    first = made("generate", "--script", "story.toml", *options)
    again = made("generate", "--like", first, into="again")
    assert sha(first) == sha(again)
    seeded = made("generate", "--like", first, "--seed", "7", into="seeded")
    facts = carried(here / seeded)
    assert facts["sampling"].pop("seed") == 7
    first_facts = carried(here / first)
    first_facts["sampling"].pop("seed")
    assert facts == first_facts
    assert first_facts["script"]["starts"] == [0, 48] and "赤い" in first_facts["script"]["scenes"][0]["prompt"]


@pytest.mark.parametrize(
    ("model", "strategy"),
    [
        ("clock", "relay"), pytest.param("pocket", "sliding", marks=pytest.mark.long),
        *(pytest.param("clock", one, marks=pytest.mark.long) for one in ("async", "blocks", "looping", "rolling", "soft")),
    ],
)  # fmt: skip
def test_edits_of_a_run_in_progress_are_made_again(here, model, strategy):
    pipe, asked = longtake.load(model), set()

    def edit(event):
        stream = PromptStream(here / "first")
        if isinstance(event, SegmentWritten) and event.index == 0 and not asked:
            asked.add(stream.replace("a blue star at night", at=9.0).id)
            asked.add(stream.insert("a yellow ring", at=11.0, seconds=1.0).id)
            asked.add(stream.add("a pink cube", seconds=2.0, cut=True).id)

    scenes, first = [("a red ball", 2), ("a green heart", 10)], here / "first"
    run_ = longtake.record(pipe, scenes=scenes, output=first, steps=1, strategy=strategy, on_event=edit)
    prompts = [scene["prompt"] for scene in carried(first / "video.mp4")["script"]["scenes"]]
    blue = "a blue star at night"
    assert prompts[-4:] == [blue, "a yellow ring", blue, "a pink cube"]
    assert len(run_) == 15 * 24
    assert sha(made("generate", "--like", "first/video.mp4", into="again")) == sha("first/video.mp4")


def test_an_endless_video_stops_where_it_was_stopped(here, capsys):
    pipe = longtake.load("pocket", device="cpu")

    def stop(event):
        if isinstance(event, SegmentWritten) and event.index == 2:
            pipe.interrupt()

    longtake.record(pipe, "a red ball", output=here / "first", endless=True, steps=1, on_event=stop)
    first = "first/video.mp4"
    assert carried(here / first)["script"]["frames"] is None
    assert sha(made("generate", "--like", first, into="again")) == sha(first)
    assert "longtake resume again" in capsys.readouterr().out
    other = carried(here / made("generate", "a blue star", "--like", first, into="other"))
    assert other["script"]["frames"] == other["video"]["frames"] == carried(here / first)["video"]["frames"]


def test_inputs_are_asked_for_by_flag_and_compared(here, capsys):
    for name, shade in (("star.png", 200), ("moon.png", 90)):
        Image.new("RGB", (16, 16), (shade, 20, 60)).save(here / name)
    first = made("generate", "a red ball", "--image", here / "star.png", "--seconds", "1", *TOY)
    assert carried(here / first)["inputs"]["image"] == {"name": "star.png", "sha256": sha("star.png")}
    assert f"give --image star.png (SHA-256 {sha('star.png')[:12]}…)" in error_of(capsys, "generate", "--like", first)
    (here / "copy.png").write_bytes((here / "star.png").read_bytes())
    assert sha(made("generate", "--like", first, "--image", "copy.png", into="again")) == sha(first)
    capsys.readouterr()
    made("generate", "--like", first, "--image", "moon.png", into="moon")
    assert "moon.png is not --image star.png (SHA-256" in capsys.readouterr().err
    longer = made("extend", first, "--like", first, into="longer")
    assert carried(here / longer)["video"]["frames"] == 48
    assert "run `longtake extend video.mp4 --like longer/video.mp4`" in error_of(capsys, "generate", "--like", longer)
    assert sha(made("extend", first, "--like", longer, into="longer2")) == sha(longer)


def test_loras_and_models_are_asked_for_and_compared(here, capsys):
    model, ink, chalk = (
        random_wan(here / "deep" / "m"),
        lora(here / "ink.safetensors"),
        lora(here / "chalk.safetensors", 1),
    )
    few = ["--num-frames", "17", "--strategy", "relay", "--overlap", "5", "--guidance", "1"]
    first = made("generate", "a", "--model", model, "--lora", f"{ink}=0.5", *few, *SHORT)
    facts = carried(here / first)
    assert facts["loras"] == {"ink.safetensors": sha(ink)} and facts["model"]["name"] == "m"
    assert facts["script"]["scenes"][0]["lora"] == [["ink.safetensors", 0.5]]
    like = ["generate", "--like", first]
    assert "give --lora ink.safetensors (SHA-256" in error_of(capsys, *like, "--model", model)
    error = error_of(capsys, *like, "--lora", ink)
    assert "the model m (SHA-256" in error and "give it with --model" in error
    moved = here / "elsewhere" / "renamed.safetensors"
    moved.parent.mkdir()
    moved.write_bytes(ink.read_bytes())
    ink.unlink()
    again = made(*like, "--model", model, "--lora", moved, into="again")
    assert segments(here / "again") == segments(here / "first")
    stronger = made(*like, "--model", model, "--lora", f"{moved}=1", "--lora", chalk, into="more")
    assert carried(here / stronger)["script"]["scenes"][0]["lora"] == [
        ["chalk.safetensors", 1.0],
        ["renamed.safetensors", 1.0],
    ]
    chalk.rename(here / "ink.safetensors")
    capsys.readouterr()
    assert run([*like, "--model", str(model), "--lora", "ink.safetensors", "-o", "no"]) == 2
    assert "it has another SHA-256" in capsys.readouterr().err
    assert again


def test_nothing_names_this_machine(here):
    Image.new("RGB", (16, 16), (200, 20, 60)).save(here / "star.png")
    first = made("generate", "a red ball", "--image", here / "star.png", "--seconds", "1", *TOY)
    text = read_tags(here / first)["comment"]
    for word in (str(here), here.name, os.uname().nodename, os.sep + "home", os.getcwd()):
        assert word not in text


def test_no_metadata_is_recorded_and_kept_by_a_resume(here, capsys):
    first = made("generate", "a red ball", "--seconds", "1", "--no-metadata", *TOY)
    assert "comment" not in read_tags(here / first)
    assert json.loads((here / "first" / "run.json").read_text())["video"]["metadata"] is False
    before = sha(first)
    (here / first).unlink()
    assert run(["resume", "first"]) == 0 and sha(first) == before
    assert "carries no settings of longtake" in error_of(capsys, "generate", "--like", first)


def test_a_video_of_an_older_run_keeps_its_bytes(here):
    first = made("generate", "a red ball", "--seconds", "1", "--no-metadata", *TOY)
    before, path = sha(first), here / "first" / "run.json"
    path.write_text(path.read_text().replace(',\n    "metadata": false', ""))
    (here / first).unlink()
    assert run(["resume", "first", "--allow", "run.json"]) == 0 and sha(first) == before


def test_other_lengths_and_prompts(here):
    (here / "story.toml").write_text(STORY, encoding="utf-8")
    first = made("generate", "--script", "story.toml", *TOY)
    longer = carried(here / made("generate", "--like", first, "--seconds", "5", into="longer"))["script"]
    assert longer["starts"] == [0, 48] and longer["frames"] == 120 and longer["abrupt"] == 1.5
    other = carried(here / made("generate", "a green heart", "--like", first, into="other"))["script"]
    assert other["frames"] == 84 and [scene["prompt"] for scene in other["scenes"]] == ["a green heart"]
    few = carried(here / made("generate", "--like", first, "--num-frames", "30", into="few"))["script"]
    assert few["frames"] == 30 and len(few["scenes"]) == 1
