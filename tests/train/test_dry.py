"""What a mixed run is said to take, before a weight is there, is what it takes."""

import gc
from dataclasses import asdict

import pytest
import torch

from longtake.cli import run as command
from longtake.ledger import Ledger
from longtake.models import ltx, ltx_codec, ltx_codec_config, weights
from longtake.models.ltx import LTXTransformer
from longtake.models.ltx_presets import CODEC_PARAMETERS, TEXT_PARAMETERS
from longtake.train.dry import dry_run, passed
from longtake.train.loop import Settings, begin
from longtake.train.recipes.mixed import Mixed
from longtake.train.shards import moving
from tests.checkpoints import random_text

RELEASED = {
    "loop": {"steps": 1000, "dtype": "bf16", "checkpointing": True},
    "mixed": {
        "init": "ltx-2b-0.9.5", "seconds": [5, 8], "sizes": [[512, 768], [320, 512]], "drawing": {"tokens": 9600},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A run whose codec and text encoder know nothing."""
    folder = tmp_path_factory.mktemp("parts")
    config = ltx_codec_config.tiny()
    weights.save(ltx_codec.LTXCodec(config), config, folder / "codec", kind="AutoencoderKLLTXVideo")
    random_text(folder, 10)
    network = ltx.tiny(num_layers=4, num_attention_heads=6, attention_head_dim=16, cross_attention_dim=96)
    return {
        "seconds": (1.0, 1.5), "sizes": ((32, 32), (24, 40)), "clips": 2, "text": str(folder),
        "codec": str(folder / "codec"), "network": asdict(network), "drawing": {"tokens": 900}, "judged": 0,
        "given": {"first": 0.0, "several": 0.0},
    }  # fmt: skip


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_step_takes_what_was_said(table, tmp_path, recomputed):
    """All that is alive in forward and backward pass of a real batch, and what the shapes of it say."""
    recipe = Mixed(table, tmp_path)
    run = begin(recipe, Settings(steps=9, save=0, checkpointing=recomputed), tmp_path, lambda line: None)
    for _ in range(2):  # the optimiser then has its memory, and tables of places are made
        run.advance()
    batch = recipe.draw(0, torch.Generator().manual_seed(0))
    words = recipe.text.encode(batch.told).ne(0).any(-1).any(0).sum()
    recipe.module.zero_grad(set_to_none=True)
    recipe.draws = lambda rng: batch
    gc.collect()
    held = [*recipe.module.parameters(), *moving(recipe.module).values()]
    with Ledger({"cpu"}, held) as ledger:
        recipe.loss(0, torch.Generator()).total.backward()
    with torch.device("meta"):
        net = LTXTransformer(recipe.module.config)
    net.checkpointing = recomputed
    told, work = passed(net, *batch.video.shape[:2], words=int(words))
    assert told == pytest.approx(ledger.most, rel=0.06)
    assert work > 0


def test_a_released_network_is_tried_without_weights():
    taken, lines = dry_run(RELEASED)
    assert taken.parameters == 1_923_385_472 and (taken.clips, taken.tokens) == (1, 9600)
    assert taken.parts == 4 * (CODEC_PARAMETERS["0.9.5"] + TEXT_PARAMETERS)
    assert taken.held == 16 * taken.parameters  # weights, averages, two numbers of AdamW
    assert taken.peak > taken.held + taken.parts + taken.gradients
    assert 1.5e14 < taken.work < 3e14
    assert any("9,600" in line and "layers are recomputed" in line for line in lines)


def test_recomputing_and_muon_take_less(table):
    def taken(**loop):
        return dry_run({"loop": {"steps": 9, **loop}, "mixed": table})[0]

    plain, less = taken(), taken(checkpointing=True, optimiser="muon", dtype="bf16")
    assert less.step < 0.7 * plain.step and less.work == pytest.approx(4 / 3 * plain.work)
    assert less.held < plain.held and less.copies == 2 * plain.parameters and not plain.copies


def test_the_command_says_it(table, tmp_path, capsys):
    path = tmp_path / "mixed.toml"
    inner = "\n".join(f"{k} = {v}" for k, v in [("seconds", [1.0, 1.5]), ("sizes", [[32, 32], [24, 40]])])
    network = "\n".join(
        f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in table["network"].items()
    )
    path.write_text(
        f'[loop]\nsteps = 9\n[mixed]\ntext = "{table["text"]}"\ncodec = "{table["codec"]}"\n{inner}\n'
        f"[mixed.network]\n{network}\n"
    )
    assert command(["train", "mixed", str(path), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "a new network" in told and "together" in told and "GiB" in told
    assert command(["train", "flow", str(path), "--dry-run"]) == 2
    assert "is for the recipe mixed" in capsys.readouterr().err
    assert command(["train", "mixed", str(path)]) == 2
    assert "give -o" in capsys.readouterr().err
