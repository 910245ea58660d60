"""The last lines of a training: where its result is and the command that tries it, which is run as it stands."""

import json
import shlex

import pytest

from longtake.cli import run as run_command
from longtake.core.errors import InputError
from longtake.models.locate import locate
from longtake.train.loop import run
from longtake.train.recipes.registry import RECIPES
from longtake.train.whole_config import with_changes
from tests.train.toys import quiet

LOOP = {"steps": 1, "save_every": 0, "warmup": 1}


def trained(name, parts, out, report=quiet):
    config = with_changes({"loop": LOOP, name: RECIPES[name].part("tiny")(parts)}, name, [], steps=1)
    return run(name, config, out, RECIPES, report)


@pytest.mark.parametrize("name", [n for n in RECIPES if RECIPES[n].trains == "video network"])
def test_the_command_at_the_end_of_a_run_makes_a_video(name, tiny_parts, tmp_path):
    lines = []
    out = trained(name, tiny_parts, tmp_path / "my run", lines.append)
    assert lines[-2] == f"finished; the model is in {out / 'model'}"
    assert lines[-1].startswith("try it: longtake generate ")
    words = shlex.split(lines[-1].removeprefix("try it: "))[1:]
    video = tmp_path / "video.mp4"
    assert run_command([*words, "--seconds", "0.3", "--num-inference-steps", "1", "-o", str(video)]) == 0
    assert video.stat().st_size > 0
    again = []
    trained(name, tiny_parts, out, again.append)
    assert again[-2:] == lines[-2:], "a finished run that is started again says the same"


def test_a_lora_is_tried_with_the_model_that_it_was_trained_on(tiny_parts, tmp_path):
    base = trained("flow_matching", tiny_parts, tmp_path / "base")
    table = RECIPES["lora"].part("tiny")(tiny_parts)
    table = {**table, "settings": {**table["settings"], "init": str(base)}}
    lines = []
    out = run("lora", {"loop": LOOP, "lora": table}, tmp_path / "lora", RECIPES, lines.append)
    assert lines[-2] == f"finished; the LoRA is in {out / 'lora.safetensors'}"
    words = shlex.split(lines[-1].removeprefix("try it: "))[1:]
    assert words[-4:] == ["--model", str(base), "--lora", str(out)]
    short = ["--seconds", "0.3", "--num-inference-steps", "1", "-o", str(tmp_path / "video.mp4")]
    assert run_command([*words, *short]) == 0
    with pytest.raises(InputError, match=f"{out} holds a LoRA, not a model: .*--model {base} --lora {out}"):
        locate(str(out))


@pytest.mark.parametrize("name, key", [("vae", "vae"), ("text_encoder", "text")])
def test_a_part_of_a_model_names_the_key_that_takes_it(name, key, tiny_parts, tmp_path):
    lines = []
    out = trained(name, tiny_parts, tmp_path / "run", lines.append)
    folder = out / "vae" if name == "vae" else out
    assert lines[-1] == f'the config of another training takes it: {key} = "{folder}"'
    with pytest.raises(InputError, match=rf"is a training of a part of a model \({name}\)"):
        locate(str(out))


def test_the_folder_of_a_run_stands_for_its_model(tmp_path):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "config.json").write_text(json.dumps({"loop": {"steps": 3}, "flow_matching": {}}))
    with pytest.raises(
        InputError, match=r"has written no model yet: finish it .* `longtake train flow_matching CONFIG"
    ):
        locate(str(run_folder))
    (run_folder / "model").mkdir()
    assert locate(str(run_folder)).path == run_folder / "model"
    (run_folder / "config.json").write_text('{"num_layers": 2}')
    assert locate(str(run_folder)).path == run_folder, "config.json of a checkpoint"
