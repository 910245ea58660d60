"""Faults of a training run, by which no step is lost."""

import json
import os
import signal

import pytest
import torch
from safetensors import SafetensorError

from longtake.cli import run as command
from longtake.core.errors import ConfigError
from longtake.core.platform import Stopped
from longtake.media.video_reader import VideoError
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.run import checkpoint
from longtake.train.run import signals as stop
from longtake.train.run.checkpoint import CheckpointError, newest_checkpoint
from tests.train.toys import Line, Weighted, curve, quiet

SHORT = LoopConfig.of(steps=10, lr=0.02, warmup=2, save_every=4, log_every=1)


def model(folder):
    return checkpoint.read(folder, "model")


# ---------------------------------------------------------------- non-finite losses
def test_a_bad_step_is_skipped_and_reported(tmp_path):
    lines = []
    train(Weighted(bad=(4,)), SHORT.with_changes(save_every=1, keep_checkpoints=20), tmp_path, lines.append)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (skipped,) = [line for line in log if "skipped" in line]
    assert skipped["step"] == 4 and skipped["skipped"].startswith("batch 1 of 1, loss nan (")
    assert skipped["skipped"].endswith(" items)") and any("step 4 skipped" in line for line in lines)
    before, after, later = (checkpoint.read(checkpoint.checkpoint_folder(tmp_path, step), "ema") for step in (4, 5, 6))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not all(torch.equal(after[name], later[name]) for name in before)
    assert len(curve(tmp_path)) == 9


def test_too_many_bad_steps_stop_the_run_and_the_weights_are_kept(tmp_path):
    bad = (1, 5, 6, 7)
    with pytest.raises(
        FloatingPointError, match=r"in 3 consecutive steps; the last was step 7: batch 2 of 2, loss nan \(\d"
    ):

        class Half(Weighted):
            def loss(self, step, rng):
                loss = super().loss(step, rng)
                first = rng.initial_seed() % 2 == 0  # batch 1 of 2 is fine
                return loss._replace(total=loss.total.nan_to_num()) if first else loss

        train(Half(bad=bad), SHORT.with_changes(max_bad_steps=2, accumulate=2), tmp_path, quiet)
    newest = newest_checkpoint(tmp_path)
    assert newest.name == "step-000008" and all(tensor.isfinite().all() for tensor in model(newest).values())
    train(Weighted(), SHORT.with_changes(max_bad_steps=2, accumulate=2), tmp_path, quiet)
    assert newest_checkpoint(tmp_path).name == "step-000010"


def test_a_gradient_that_is_no_number_is_skipped_too(tmp_path):
    class Steep(Weighted):
        def loss(self, step, rng):
            loss = super().loss(step, rng)
            weight = self.module.head.weight
            return loss._replace(total=loss.total + (weight.sum() - weight.sum().detach()).abs().sqrt().sum())

    batch = r"batch {} of 2, loss [\d.]+ \(\d items\)"
    words = f"the loss or its gradient was non-finite in 6 consecutive .*: the gradient, of {batch.format(1)}; {batch.format(2)}"
    with pytest.raises(FloatingPointError, match=words):
        train(Steep(), SHORT.with_changes(accumulate=2), tmp_path, quiet)


# ---------------------------------------------------------------- a run that changes
def test_a_changed_config_is_refused_and_a_longer_run_is_not(tmp_path):
    train(Weighted(), SHORT, tmp_path, quiet)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(
        ConfigError, match=r"another config: loop.grad_clip was 1.0, now 0.5; loop.lr was 0.02, now 0.1\. "
    ):
        train(Weighted(), SHORT.with_changes(lr=0.1, grad_clip=0.5, steps=20), tmp_path, quiet)
    assert (tmp_path / "config.json").read_bytes() == before
    train(Weighted(), SHORT.with_changes(steps=12, log_every=2, save_every=3, keep_checkpoints=1), tmp_path, quiet)
    assert newest_checkpoint(tmp_path).name == "step-000012"


def test_settings_of_a_recipe_are_compared_too(tmp_path):
    table = {"loop": {"steps": 4}, "weighted": {"width": 3, "eval_prompts": 1, "inner": {"steps": 4}}}
    train(Weighted(), LoopConfig.of(steps=4), tmp_path, quiet, table)
    longer = {"loop": {"steps": 5}, "weighted": {"width": 3, "eval_prompts": 2, "inner": {"steps": 5}}}
    train(Weighted(), LoopConfig.of(steps=5), tmp_path, quiet, longer)
    longer["weighted"]["width"] = 4
    with pytest.raises(ConfigError, match=r"config: weighted\.width was 3, now 4\."):
        train(Weighted(), LoopConfig.of(steps=5), tmp_path, quiet, longer)


def test_the_command_line_reports_a_wrong_config_in_one_sentence(tmp_path, capsys):
    (path := tmp_path / "run.toml").write_text("[loop]\nsteps = 3\nlearn = 1\n")
    assert command(["train", "text_encoder", str(path), "-o", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("longtake: [loop] has no key 'learn': did you mean lr?")
    assert not (tmp_path / "run").exists()


def test_changed_data_are_refused(tmp_path):
    class WithData(Weighted):
        clips = 3

        def dataset(self):
            return {"clips": self.clips, "sha256": "ab"}

    train(WithData(), SHORT, tmp_path, quiet)
    train(WithData(), SHORT, tmp_path, quiet)
    WithData.clips = 4
    with pytest.raises(ConfigError, match="trained on other data: clips was 3, now 4"):
        train(WithData(), SHORT, tmp_path, quiet)


def test_changed_frozen_weights_are_refused_and_missing_records_are_written(tmp_path):
    (base := tmp_path / "base.safetensors").write_bytes(b"as it was")

    class Frozen(Line):
        restores_frozen = True

        def frozen(self, init=False):
            return {"init": [base]}

    train(Line(), SHORT.with_changes(steps=4), tmp_path / "run", quiet)
    lines = []
    train(Frozen(), SHORT.with_changes(steps=8), tmp_path / "run", lines.append)
    assert "did not record the weights of init" in lines[0]
    train(Frozen(), SHORT, tmp_path / "run", lines.append)
    assert sum("did not record" in line for line in lines) == 1
    base.write_bytes(b"another one")
    with pytest.raises(
        ConfigError, match=r'trained with other weights: init was "\w{12}", now "\w{12}"\. Restore the old files'
    ):
        train(Frozen(), SHORT, tmp_path / "run", quiet)


# ---------------------------------------------------------------- disks and signals
@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")],
)
def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, monkeypatch, error):
    write, calls = checkpoint.save_file, []

    def no_room(tensors, path):
        calls.append(path)
        path.write_bytes(b"half")
        if len(calls) == 5:  # the second file of the second checkpoint
            raise error
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", no_room)
    with pytest.raises(
        CheckpointError, match="the disk is full; step-000004, the one before it, is complete; free some space"
    ):
        train(Weighted(), SHORT, tmp_path, quiet)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000004"]
    monkeypatch.undo()
    train(Weighted(seed=3), SHORT, tmp_path, quiet)
    train(Weighted(), SHORT, tmp_path / "whole", quiet)
    assert curve(tmp_path) == curve(tmp_path / "whole")


def test_an_error_loses_no_steps(tmp_path):
    class Vanished(Weighted):
        def __init__(self, at):
            super().__init__()
            self.at = at

        def loss(self, step, rng):
            if step == self.at:
                raise VideoError("a.mp4: it is gone")
            return super().loss(step, rng)

    lines = []
    with pytest.raises(VideoError, match="it is gone"):
        train(Vanished(6), SHORT, tmp_path / "parts", lines.append)
    assert newest_checkpoint(tmp_path / "parts").name == "step-000006" and "run the same command to resume" in lines[-1]
    train(Weighted(seed=5), SHORT, tmp_path / "parts", quiet)
    train(Weighted(), SHORT, tmp_path / "whole", quiet)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    with pytest.raises(VideoError):  # no step was made, so another config may follow
        train(Vanished(0), SHORT, tmp_path / "first", quiet)
    assert newest_checkpoint(tmp_path / "first") is None


def test_a_signal_saves_before_it_stops(tmp_path):
    class Interrupted(Weighted):
        def loss(self, step, rng):
            if step == 6:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)  # forwarded by torchrun as well: one request
            return super().loss(step, rng)

    handlers, lines = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(Stopped) as stop:
        train(Interrupted(), SHORT, tmp_path / "parts", lines.append)
    assert stop.value.code == 143 and "run the same command to resume" in lines[-1]
    assert signal.getsignal(signal.SIGTERM) == handlers
    assert newest_checkpoint(tmp_path / "parts").name == "step-000007"
    train(Weighted(seed=5), SHORT, tmp_path / "parts", quiet)
    train(Weighted(), SHORT, tmp_path / "whole", quiet)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_an_incomplete_log_line_is_dropped(tmp_path):
    train(Weighted(), SHORT.with_changes(steps=6), tmp_path, quiet)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    train(Weighted(), SHORT, tmp_path, quiet)
    assert len(curve(tmp_path)) == 10


def test_frozen_weights_that_a_recipe_restores_are_not_saved(tmp_path):
    class Brings(Line):
        restores_frozen = True

    train(Brings(), SHORT.with_changes(steps=6), tmp_path, quiet)
    assert set(model(newest_checkpoint(tmp_path))) == {"1.weight", "1.bias"}
    train(Brings(), SHORT, tmp_path, quiet)
    train(Brings(), SHORT, tmp_path / "whole", quiet)
    assert len(curve(tmp_path)) == 10


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(Line(), SHORT.with_changes(steps=4), tmp_path, quiet)
    with pytest.raises(ConfigError, match="it is of another network"):
        train(Weighted(), SHORT, tmp_path, quiet)


def test_a_second_signal_stops_at_once(monkeypatch):
    clock = iter([0.0, 0.5, 5.0])
    monkeypatch.setattr(stop.time, "monotonic", lambda: next(clock))
    sent = []
    monkeypatch.setattr(stop.signal, "raise_signal", sent.append)
    with stop.StopRequest() as request:
        receive = signal.getsignal(signal.SIGINT)
        receive(signal.SIGINT, None)
        receive(signal.SIGTERM, None)
        assert not sent and request.requested == signal.SIGINT
        receive(signal.SIGTERM, None)
        assert sent == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
