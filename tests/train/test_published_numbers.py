"""What the sources fix of the published set-ups, in the presets; and a run without an average exports its own weights."""

import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longtake.core.errors import ConfigError
from longtake.train.loop import run, train
from longtake.train.loop_config import LoopConfig
from longtake.train.recipes.registry import RECIPES
from longtake.train.run.checkpoint import newest_checkpoint
from longtake.train.run.optimisers import make_optimisers
from longtake.train.toml_config import read_table
from longtake.train.whole_config import read_loop
from tests.train.toys import Line, quiet

EXAMPLES = Path(__file__).parents[2] / "examples" / "train"


def test_the_svi_preset_has_the_optimiser_of_the_official_trainer():
    """AdamW with torch's defaults, clipping at 1, no schedule, no average, ZeRO-2 in bf16; rank and alpha 128."""
    config = tomllib.loads((EXAMPLES / "error_recycling-svi.toml").read_text())
    loop, own = read_loop(config), read_table(RECIPES["error_recycling"].part("CONFIG"), config["error_recycling"], "x")
    defaults = torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).defaults
    update, compute = loop.update, loop.compute
    assert (tuple(update.betas), update.weight_decay) == (defaults["betas"], defaults["weight_decay"])
    assert (update.optimiser, update.lr, update.grad_clip, update.ema) == ("adamw", 2e-5, 1.0, 0.0)
    assert (update.warmup, update.decay) == (0, 0.0)
    assert (compute.dtype, compute.shard, compute.checkpointing) == ("bf16", "zero2", True)
    assert (own.lora.rank, own.lora.alpha, own.shift) == (128, 128.0, 5.0)
    bank = own.bank
    assert (bank.buckets, bank.capacity, bank.warmup, bank.clean_update_prob) == (50, 500, 50, 0.1)


def test_betas_and_weight_decay_reach_the_optimiser():
    update = LoopConfig.of(steps=1, betas=(0.8, 0.95), weight_decay=0.1).update
    (adam,) = make_optimisers(Line().module, "adamw", update.lr, update.weight_decay, update.betas)
    assert adam.defaults["betas"] == (0.8, 0.95) and adam.defaults["weight_decay"] == 0.1
    with pytest.raises(ConfigError, match=r"betas is \[0.9\]; it must be two numbers from 0 to below 1"):
        LoopConfig.of(steps=1, betas=(0.9,))


@pytest.mark.parametrize("ema, equal", [(0.0, True), (0.9, False)])
def test_without_an_average_the_weights_themselves_are_exported(ema, equal, tmp_path):
    train(Line(), LoopConfig.of(steps=5, lr=0.05, ema=ema, save_every=0), tmp_path, quiet)
    raw, mean = (load_file(newest_checkpoint(tmp_path) / f"{part}.safetensors") for part in ("model", "ema"))
    assert all(torch.equal(raw[name], mean[name]) for name in raw) is equal


@pytest.mark.parametrize("name", ["flow_matching", "image_to_video", "lora", "error_recycling"])
def test_checkpoints_and_exports_after_a_stop_are_those_of_an_uninterrupted_run(name, tiny_parts, tmp_path):
    """Every file of weights has the same bytes, and so the same SHA-256."""
    table = RECIPES[name].part("tiny")(tiny_parts)
    config = {"loop": {"steps": 4, "warmup": 2, "save_every": 2, "ema": 0.9}, name: table}
    whole = run(name, config, tmp_path / "whole", RECIPES, quiet)

    def stop(line):
        if line.startswith("step 3/"):
            raise KeyboardInterrupt

    stopping = {**config, "loop": {**config["loop"], "log_every": 1}}
    with pytest.raises(KeyboardInterrupt):
        run(name, stopping, tmp_path / "parts", RECIPES, stop)
    assert newest_checkpoint(tmp_path / "parts").name == "step-000002"
    parts = run(name, config, tmp_path / "parts", RECIPES, quiet)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert files == sorted(path.relative_to(parts) for path in parts.rglob("*.safetensors"))
    different = [str(file) for file in files if (whole / file).read_bytes() != (parts / file).read_bytes()]
    assert len(files) > 3 and not different
