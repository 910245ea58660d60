"""The optimiser loop: what it trains, what it writes, and that a resumed run equals an uninterrupted one."""

import json

import pytest
import torch
from torch import nn

from longtake.core.errors import ConfigError
from longtake.models.runtime.compile import compile_blocks
from longtake.train import loop
from longtake.train.loop import run, train
from longtake.train.loop_config import LoopConfig
from longtake.train.recipes.registry import RECIPES
from longtake.train.run.checkpoint import newest_checkpoint
from longtake.train.run.distributed import step_generator
from longtake.train.run.optimisers import Muon, make_optimisers, orthogonal, schedule
from longtake.train.run_folder import is_best, write_best
from tests.train.toys import Line, Prompted, Weighted, curve, quiet

SHORT = LoopConfig.of(steps=30, lr=0.05, warmup=5, save_every=10, log_every=10)


def weights(recipe):
    return torch.cat([tensor.flatten() for tensor in recipe.module.state_dict().values()])


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_loss_falls(tmp_path, kind):
    recipe = Line()
    train(recipe, SHORT.with_changes(optimiser=kind, lr=0.1), tmp_path, quiet)
    assert recipe.losses[-1] < 0.6 * recipe.losses[0]
    assert recipe.finished == 1


def test_only_trainable_weights_move(tmp_path):
    recipe = Line()
    frozen, free = recipe.module[0].weight.clone(), recipe.module[1].weight.clone()
    train(recipe, SHORT, tmp_path, quiet)
    assert torch.equal(recipe.module[0].weight, frozen) and recipe.module[0].weight.grad is None
    assert not torch.equal(recipe.module[1].weight, free)


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="every weight is frozen"):
        make_optimisers(nn.Linear(2, 2).requires_grad_(False), "adamw", 1e-3, 0.0)


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(tmp_path):
    runs = [Line(), Line(), Line()]
    for recipe, seed in zip(runs, (1, 1, 2)):
        train(recipe, SHORT.with_changes(seed=seed, save_every=0), tmp_path / str(id(recipe)), quiet)
    assert runs[0].losses == runs[1].losses != runs[2].losses


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, kind):
    settings = SHORT.with_changes(optimiser=kind, ema=0.9, log_every=4)  # lines do not fall on checkpoints
    whole = Line()
    train(whole, settings, tmp_path / "whole", quiet)

    class Stops(Line):
        def loss(self, step, rng):
            if step == 14:
                raise KeyboardInterrupt
            return super().loss(step, rng)

    with pytest.raises(KeyboardInterrupt):
        train(Stops(), settings, tmp_path / "parts", quiet)
    assert newest_checkpoint(tmp_path / "parts").name == "step-000010"
    rest, lines = Line(seed=7), []
    train(rest, settings, tmp_path / "parts", lines.append)
    assert lines[0] == "resuming from step 10"
    assert rest.losses == whole.losses[10:]
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    for file in ("model", "ema", "optimiser"):
        one, two = (tmp_path / part / "step-000030" / f"{file}.safetensors" for part in ("whole", "parts"))
        assert one.read_bytes() == two.read_bytes(), file


def test_two_checkpoints_are_kept_and_an_incomplete_one_is_ignored(tmp_path):
    (tmp_path / "step-000007.part").mkdir()
    train(Line(), SHORT, tmp_path, quiet)
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "step-000040.part").mkdir()
    assert [path.name for path in sorted(tmp_path.glob("step-??????"))] == ["step-000020", "step-000030"]
    assert newest_checkpoint(tmp_path).name == "step-000030"


def test_the_log_has_losses_and_scores(tmp_path):
    recipe = Line()
    train(recipe, SHORT.with_changes(eval_every=15), tmp_path, quiet)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [10, 20, 30]
    assert [line["step"] for line in lines if "score" in line] == [15, 30] and recipe.evaluated == 2
    logged = next(line["loss"] for line in lines if "loss" in line)
    assert logged == pytest.approx(sum(recipe.losses[:10]) / 10, abs=1e-5)


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        LoopConfig.of(steps=0)
    with pytest.raises(ConfigError, match="there is no recipe 'nothing'; the recipes are: "):
        run("nothing", {"loop": {"steps": 1}}, tmp_path, RECIPES)
    with pytest.raises(ConfigError, match=r"\[loop\] has no key 'stepz': did you mean steps"):
        run("text_encoder", {"loop": {"stepz": 1}}, tmp_path, RECIPES)
    with pytest.raises(ConfigError, match="the config has no key 'text_encodr': did you mean text_encoder"):
        run("text_encoder", {"loop": {"steps": 1}, "text_encodr": {}}, tmp_path, RECIPES)
    with pytest.raises(ConfigError, match=r"text_encoder is a table: write \[text_encoder\] above"):
        run("text_encoder", {"loop": {"steps": 1}, "text_encoder": 3}, tmp_path, RECIPES)
    with pytest.raises(ConfigError, match=r"\[text_encoder\] has no key 'bach': did you mean batch"):
        run("text_encoder", {"loop": {"steps": 1}, "text_encoder": {"bach": 1}}, tmp_path, RECIPES)
    with pytest.raises(ConfigError, match="needs scores"):
        LoopConfig.of(steps=1, best_metric="psnr")


def test_batches_that_are_accumulated_count_as_one_large_batch(tmp_path):
    """Batches of different sizes: every item counts the same."""

    class Large(Weighted):
        def loss(self, step, rng):
            x = torch.cat([self.batch(step_generator(0, step, number, 3)) for number in range(3)])
            return (self.module(x) - x[:, :3].roll(1, 1)).pow(2).sum(1).mean()

    settings = LoopConfig.of(steps=4, lr=0.01, log_every=1, save_every=0)
    train(small := Weighted(), settings.with_changes(accumulate=3), tmp_path / "small", quiet)
    train(large := Large(), settings, tmp_path / "large", quiet)
    assert curve(tmp_path / "small") == pytest.approx(curve(tmp_path / "large"), rel=1e-6)
    norms = [
        [json.loads(line)["norm"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("small", "large")
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    torch.testing.assert_close(weights(small), weights(large), rtol=1e-4, atol=1e-6)


def test_recomputed_layers_change_no_loss(tmp_path):
    settings = LoopConfig.of(steps=5, lr=0.01, log_every=1, save_every=0)
    train(plain := Weighted(), settings, tmp_path / "plain", quiet)
    train(thrifty := Weighted(), settings.with_changes(checkpointing=True), tmp_path / "thrifty", quiet)
    assert curve(tmp_path / "plain") == curve(tmp_path / "thrifty")
    assert plain.module.recomputed == 0 and thrifty.module.recomputed == 10
    with pytest.raises(ConfigError, match="cannot recompute"):
        train(Line(), settings.with_changes(checkpointing=True), tmp_path / "line", quiet)


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(tmp_path):
    settings, seen = LoopConfig.of(steps=5, lr=0.01, log_every=1, save_every=0), []
    recipe = Weighted()
    recipe.module.head.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    train(recipe, settings.with_changes(dtype="bf16"), tmp_path / "bf16", quiet)
    train(Weighted(), settings, tmp_path / "fp32", quiet)
    assert set(seen[:5]) == {torch.bfloat16}
    assert all(tensor.dtype == torch.float32 for tensor in recipe.module.state_dict().values())
    assert curve(tmp_path / "bf16") == pytest.approx(curve(tmp_path / "fp32"), rel=0.05)
    assert curve(tmp_path / "bf16") != curve(tmp_path / "fp32")


def test_an_interrupted_evaluation_is_repeated_on_resume(tmp_path):
    """In the middle and after the last step; the best step is kept, and no step is evaluated twice."""
    settings = SHORT.with_changes(steps=20, eval_every=5, save_every=5, keep_checkpoints=1, best_metric="score")

    class Scored(Line):
        killed = ()

        def evaluate(self, step, out):
            if step in self.killed:
                raise KeyboardInterrupt
            self.evaluated += 1
            return {"score": -abs(step - 10)}

    for step in (10, 20):
        recipe = Scored()
        recipe.killed = (step,)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, settings, tmp_path / f"{step}", quiet)
        train(again := Scored(), settings, tmp_path / f"{step}", quiet)
        assert again.evaluated == (20 - step) // 5 + 1
        lines = [json.loads(line) for line in (tmp_path / f"{step}" / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "score" in line] == [5, 10, 15, 20]
        assert json.loads((tmp_path / f"{step}" / "best.json").read_text())["step"] == 10
        train(again := Scored(), settings, tmp_path / f"{step}", quiet)
        assert not again.evaluated


@pytest.mark.parametrize("best", ["score", "-score"])
def test_a_nan_score_is_never_the_best(best, tmp_path):
    nan = float("nan")
    assert not is_best(tmp_path, best, {"score": nan})
    (tmp_path / "step-000010").mkdir()
    write_best(tmp_path, best, {"score": nan}, 10)
    assert is_best(tmp_path, best, {"score": 0.5})
    write_best(tmp_path, best, {"score": 0.5}, 10)
    assert not is_best(tmp_path, best, {"score": nan})


def test_the_best_checkpoint_is_kept(tmp_path):
    class Scored(Line):
        def evaluate(self, step, out):
            return {"score": -abs(step - 10), "error": abs(step - 10)}

    for best in ("score", "-error"):
        out = tmp_path / best
        train(
            Scored(), SHORT.with_changes(eval_every=5, save_every=10, keep_checkpoints=1, best_metric=best), out, quiet
        )
        assert [path.name for path in sorted(out.glob("step-??????"))] == ["step-000010", "step-000030"]
        assert json.loads((out / "best.json").read_text())["step"] == 10
    with pytest.raises(ConfigError, match="best_metric = 'psnr', but the evaluation gives score, error"):
        train(Scored(), SHORT.with_changes(eval_every=5, best_metric="psnr"), tmp_path / "other", quiet)


def test_tensorboard_has_the_losses_of_the_log(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = SHORT.with_changes(steps=4, log_every=1, eval_every=4, tensorboard=True)
    train(Line(), settings, tmp_path, quiet)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [event.value for event in events.Scalars("loss")]
    assert losses == pytest.approx(curve(tmp_path), rel=1e-6)
    assert {"lr", "norm", "steps_per_second", "memory_mib", "eval/score"} <= set(events.Tags()["scalars"])


def test_the_schedule_warms_up_and_falls():
    assert schedule(0, 100, 10, 0.5) == pytest.approx(0.1)
    assert schedule(40, 100, 10, 0.5) == 1
    assert schedule(75, 100, 10, 0.5) == pytest.approx(0.5)
    assert schedule(100, 100, 10, 0.5) == pytest.approx(0)


def test_muon_steps_are_nearly_orthogonal():
    torch.manual_seed(0)
    matrices = orthogonal(torch.randn(3, 16, 40))
    scales = torch.linalg.svdvals(matrices)
    assert scales.min() > 0.6 and scales.max() < 1.3
    weight = nn.Parameter(torch.randn(16, 40))
    weight.grad, before = torch.randn(16, 40), weight.detach().clone()
    Muon([weight], lr=0.1).step()
    assert (weight - before).pow(2).mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=0.15)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the capture of torch.compile looks at every tensor
def test_compiled_layers_train_the_same_network(monkeypatch, tmp_path):
    settings = LoopConfig.of(steps=2, lr=0.01, warmup=1, save_every=0, log_every=1, compile=True)
    compiled_with = []
    monkeypatch.setattr(
        loop, "compile_blocks", lambda *given: compiled_with.append(given) or compile_blocks(*given, backend="eager")
    )
    train(compiled := Prompted(), settings, tmp_path / "compiled", quiet)
    train(plain := Prompted(), settings.with_changes(compile=False), tmp_path / "plain", quiet)
    assert len(compiled_with) == 1 and torch.allclose(
        *(net.module.proj_out.weight for net in (compiled, plain)), rtol=1e-4, atol=1e-6
    )
    with pytest.raises(ConfigError, match="no layers to compile"):
        train(Line(), settings, tmp_path / "line", quiet)
    with pytest.raises(ConfigError, match='needs shard = "none"'):
        train(Prompted(), settings.with_changes(shard="zero2"), tmp_path / "sharded", quiet)
