"""What goes wrong in a training run, and that nothing is lost by it."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError

from longtake.cli import run as command
from longtake.data.video import VideoError
from longtake.reel.stop import Stopped
from longtake.train import checkpoint, stop
from longtake.train.checkpoint import CheckpointError, newest_checkpoint
from longtake.train.config import ConfigError
from longtake.train.loop import Settings, train

from .toys import Line, Weighted, curve, quiet

SHORT = Settings(steps=10, lr=0.02, warmup=2, save=4, log=1)


def model(folder):
    return checkpoint.read(folder, "model")


# ---------------------------------------------------------------- losses that are no numbers
def test_a_bad_step_is_skipped_and_told(tmp_path):
    lines = []
    train(Weighted(bad=(4,)), replace(SHORT, save=1, keep=20), tmp_path, lines.append)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (skipped,) = [line for line in log if "skipped" in line]
    assert skipped["step"] == 4 and skipped["skipped"].startswith("batch 1 of 1, loss nan (")
    assert skipped["skipped"].endswith(" items)") and any("step 4 skipped" in line for line in lines)
    before, after, later = (checkpoint.read(checkpoint.place(tmp_path, step), "ema") for step in (4, 5, 6))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not all(torch.equal(after[name], later[name]) for name in before)
    assert len(curve(tmp_path)) == 9


def test_too_many_bad_steps_stop_the_run_and_the_weights_are_kept(tmp_path):
    bad = (1, 5, 6, 7)
    with pytest.raises(
        FloatingPointError, match=r"in 3 steps in a row; the last was step 7: batch 2 of 2, loss nan \(\d"
    ):

        class Half(Weighted):
            def loss(self, step, rng):
                loss = super().loss(step, rng)
                first = rng.initial_seed() % 2 == 0  # batch 1 of 2 is fine
                return loss._replace(total=loss.total.nan_to_num()) if first else loss

        train(Half(bad=bad), replace(SHORT, skips=2, accumulate=2), tmp_path, quiet)
    newest = newest_checkpoint(tmp_path)
    assert newest.name == "step-000008" and all(tensor.isfinite().all() for tensor in model(newest).values())
    train(Weighted(), replace(SHORT, skips=2, accumulate=2), tmp_path, quiet)
    assert newest_checkpoint(tmp_path).name == "step-000010"


def test_a_gradient_that_is_no_number_is_skipped_too(tmp_path):
    class Steep(Weighted):
        def loss(self, step, rng):
            loss = super().loss(step, rng)
            weight = self.module.head.weight
            return loss._replace(total=loss.total + (weight.sum() - weight.sum().detach()).abs().sqrt().sum())

    batch = r"batch {} of 2, loss [\d.]+ \(\d items\)"
    words = (
        f"the loss or its gradient was no number in 6 steps .*: the gradient, of {batch.format(1)}; {batch.format(2)}"
    )
    with pytest.raises(FloatingPointError, match=words):
        train(Steep(), replace(SHORT, accumulate=2), tmp_path, quiet)


# ---------------------------------------------------------------- a run that changes
def test_a_changed_config_is_refused_and_a_longer_run_is_not(tmp_path):
    train(Weighted(), SHORT, tmp_path, quiet)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=r"another config: loop.clip was 1.0, now 0.5; loop.lr was 0.02, now 0.1\. "):
        train(Weighted(), replace(SHORT, lr=0.1, clip=0.5, steps=20), tmp_path, quiet)
    assert (tmp_path / "config.json").read_bytes() == before
    train(Weighted(), replace(SHORT, steps=12, log=2, save=3, keep=1), tmp_path, quiet)
    assert newest_checkpoint(tmp_path).name == "step-000012"


def test_settings_of_a_recipe_are_compared_too(tmp_path):
    table = {"loop": {"steps": 4}, "weighted": {"width": 3, "judged": 1, "inner": {"steps": 4}}}
    train(Weighted(), Settings(steps=4), tmp_path, quiet, table)
    longer = {"loop": {"steps": 5}, "weighted": {"width": 3, "judged": 2, "inner": {"steps": 5}}}
    train(Weighted(), Settings(steps=5), tmp_path, quiet, longer)
    longer["weighted"]["width"] = 4
    with pytest.raises(ConfigError, match=r"config: weighted\.width was 3, now 4\."):
        train(Weighted(), Settings(steps=5), tmp_path, quiet, longer)


def test_the_command_line_says_what_is_wrong_in_a_sentence(tmp_path, capsys):
    (path := tmp_path / "run.toml").write_text("[loop]\nsteps = 3\nlearn = 1\n")
    assert command(["train", "text", str(path), "-o", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("longtake: [loop] has no key 'learn': did you mean lr?")
    assert not (tmp_path / "run").exists()


def test_changed_data_are_refused(tmp_path):
    class Told(Weighted):
        clips = 3

        def dataset(self):
            return {"clips": self.clips, "sha256": "ab"}

    train(Told(), SHORT, tmp_path, quiet)
    train(Told(), SHORT, tmp_path, quiet)
    Told.clips = 4
    with pytest.raises(ConfigError, match="trained on other data: clips was 3, now 4"):
        train(Told(), SHORT, tmp_path, quiet)


def test_changed_frozen_weights_are_refused_and_a_run_that_did_not_note_them_goes_on(tmp_path):
    (base := tmp_path / "base.safetensors").write_bytes(b"as it was")

    class Frozen(Line):
        restores_frozen = True

        def frozen(self, init=False):
            return {"init": [base]}

    train(Line(), replace(SHORT, steps=4), tmp_path / "run", quiet)
    lines = []
    train(Frozen(), replace(SHORT, steps=8), tmp_path / "run", lines.append)
    assert "did not note the weights of init" in lines[0]
    train(Frozen(), SHORT, tmp_path / "run", lines.append)
    assert sum("did not note" in line for line in lines) == 1
    base.write_bytes(b"another one")
    with pytest.raises(ConfigError, match=r'trained with other weights: init was "\w{12}", now "\w{12}"\. Put back'):
        train(Frozen(), SHORT, tmp_path / "run", quiet)


# ---------------------------------------------------------------- disks and signals
@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")],
)
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, error):
    write, calls = checkpoint.save_file, []

    def no_room(tensors, path):
        calls.append(path)
        path.write_bytes(b"half")
        if len(calls) == 5:  # the second file of the second checkpoint
            raise error
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", no_room)
    with pytest.raises(CheckpointError, match="the disk is full; step-000004, the one before, is whole; make room"):
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
    assert newest_checkpoint(tmp_path / "parts").name == "step-000006" and "the same command goes on" in lines[-1]
    train(Weighted(seed=5), SHORT, tmp_path / "parts", quiet)
    train(Weighted(), SHORT, tmp_path / "whole", quiet)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    with pytest.raises(VideoError):  # nothing was learnt, and another config may follow
        train(Vanished(0), SHORT, tmp_path / "first", quiet)
    assert newest_checkpoint(tmp_path / "first") is None


def test_a_signal_saves_before_it_stops(tmp_path):
    class Interrupted(Weighted):
        def loss(self, step, rng):
            if step == 6:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)  # passed on by torchrun as well: one wish
            return super().loss(step, rng)

    handlers, lines = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(Stopped) as stop:
        train(Interrupted(), SHORT, tmp_path / "parts", lines.append)
    assert stop.value.code == 143 and "the same command goes on" in lines[-1]
    assert signal.getsignal(signal.SIGTERM) == handlers
    assert newest_checkpoint(tmp_path / "parts").name == "step-000007"
    train(Weighted(seed=5), SHORT, tmp_path / "parts", quiet)
    train(Weighted(), SHORT, tmp_path / "whole", quiet)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_a_torn_log_line_is_dropped(tmp_path):
    train(Weighted(), replace(SHORT, steps=6), tmp_path, quiet)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    train(Weighted(), SHORT, tmp_path, quiet)
    assert len(curve(tmp_path)) == 10


def test_frozen_weights_that_a_recipe_brings_back_are_not_saved(tmp_path):
    class Brings(Line):
        restores_frozen = True

    train(Brings(), replace(SHORT, steps=6), tmp_path, quiet)
    assert set(model(newest_checkpoint(tmp_path))) == {"1.weight", "1.bias"}
    train(Brings(), SHORT, tmp_path, quiet)
    train(Brings(), SHORT, tmp_path / "whole", quiet)
    assert len(curve(tmp_path)) == 10


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(Line(), replace(SHORT, steps=4), tmp_path, quiet)
    with pytest.raises(ConfigError, match="it is of another network"):
        train(Weighted(), SHORT, tmp_path, quiet)


def test_a_folder_of_the_first_trainer_goes_on(tmp_path):
    """Its state had neither batches nor skipped steps nor pending losses, and its config none of today's settings."""
    train(Weighted(), replace(SHORT, steps=8), tmp_path, quiet)
    state = checkpoint.place(tmp_path, 8) / "state.json"
    state.write_text(json.dumps({"step": 8, "settings": {}}))
    old = {key: getattr(SHORT, key) for key in ("lr", "warmup", "seed", "log", "save")}
    (tmp_path / "config.json").write_text(json.dumps({"loop": {"steps": 8, **old}}))
    train(Weighted(), replace(SHORT, steps=9), tmp_path, quiet)
    assert newest_checkpoint(tmp_path).name == "step-000009"


def test_a_second_wish_to_stop_does_not_wait(monkeypatch):
    clock = iter([0.0, 0.5, 5.0])
    monkeypatch.setattr(stop.time, "monotonic", lambda: next(clock))
    sent = []
    monkeypatch.setattr(stop.os, "kill", lambda process, number: sent.append(number))
    with stop.Stop() as wish:
        wish._note(signal.SIGINT, None)
        wish._note(signal.SIGTERM, None)
        assert not sent and wish.wished == signal.SIGINT
        wish._note(signal.SIGTERM, None)
        assert sent == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
