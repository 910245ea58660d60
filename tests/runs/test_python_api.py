"""Durable videos from Python: recorded, interrupted, resumed, read, edited."""

import hashlib
import time

import numpy as np
import pytest
import torch

import longtake
from longtake import RunError


@pytest.fixture(scope="module")
def pipe():
    return longtake.load("pocket", device="cpu")


ASKED = dict(seconds=4, steps=1, seed=3)


@pytest.fixture(scope="module")
def whole(pipe, tmp_path_factory):
    return longtake.record(pipe, "a red ball", output=tmp_path_factory.mktemp("runs") / "whole", **ASKED)


def digest(run):
    return hashlib.sha256(run.video.read_bytes()).hexdigest()


def test_a_recorded_run_holds_the_frames_of_the_call(pipe, whole):
    assert whole.finished and len(whole) == 96 and whole.fps == 24 and whole.size == (64, 64)
    plain = pipe("a red ball", **ASKED).frames[0].uint8().numpy()
    kept = np.stack(list(whole.frames()))
    assert kept.shape == plain.shape and np.abs(kept.astype(int) - plain).mean() < 6
    assert all(check.passed for check in whole.verify())
    assert [scene.prompt for scene in whole.scenes()] == ["a red ball"]
    assert "96 frames of 64x64, finished" in repr(whole)


def test_an_interrupted_run_resumes_to_the_same_bytes(pipe, whole, tmp_path):
    def stop(event):
        if isinstance(event, longtake.SegmentWritten):
            pipe.interrupt()

    stopped = longtake.record(pipe, "a red ball", output=tmp_path / "run", on_event=stop, **ASKED)
    assert not stopped.finished and 0 < len(stopped) < 96 and stopped.video is None
    with pytest.raises(RunError, match="already holds a run"):
        longtake.record(pipe, "a red ball", output=tmp_path / "run", **ASKED)
    seen = []
    again = longtake.resume(tmp_path / "run", on_event=seen.append)
    assert again.finished and digest(again) == digest(whole)
    assert isinstance(seen[-1], longtake.RunFinished)
    assert again.save(tmp_path / "x.mkv", codec="hevc").exists()


def test_a_file_name_is_that_file(pipe, whole, tmp_path):
    def stop(event):
        if isinstance(event, longtake.SegmentWritten):
            pipe.interrupt()

    file = tmp_path / "x.mp4"
    stopped = longtake.record(pipe, "a red ball", output=file, on_event=stop, **ASKED)
    assert stopped.folder == tmp_path / "x.run" and not file.exists()
    done = longtake.resume(file)
    assert done.video == file and digest(done) == digest(whole) and longtake.open_run(file).finished
    other = tmp_path / "other.mp4"
    other.write_text("a film")
    with pytest.raises(RunError, match="exists already"):
        longtake.record(pipe, "a red ball", output=other, **ASKED)


def test_prompts_that_have_not_begun_change(pipe, tmp_path):
    def edit(event):
        if isinstance(event, longtake.RunOpened):
            longtake.open_run(tmp_path / "run").replace("a blue star at night", at=3)

    scenes = [("a red ball", 2), ("a green heart", 2)]
    run = longtake.record(pipe, scenes=scenes, output=tmp_path / "run", steps=1, on_event=edit)
    assert [scene.prompt for scene in run.scenes()][-1] == "a blue star at night"
    assert run.earliest >= 4
    with pytest.raises(RunError, match="is complete"):
        run.add("a yellow ring")


def test_an_endless_run_is_published_when_it_is_interrupted(pipe, tmp_path):
    def stop(event):
        if isinstance(event, longtake.SegmentWritten) and event.index == 3:
            pipe.interrupt()

    run = longtake.record(pipe, "a red ball", output=tmp_path / "run", endless=True, steps=1, on_event=stop)
    assert not run.finished and run.video is not None and len(run) >= 96


def test_changed_latents_are_refused_where_the_run_is_recorded(pipe, tmp_path):
    for number, change in enumerate((lambda x: x + 1, lambda x: x.add_(1))):

        @torch.inference_mode()
        def callback(own, step, timestep, given, change=change):
            return {"latents": change(given["latents"])}

        with pytest.raises(ValueError, match="recorded run"):
            longtake.record(
                pipe, "a red ball", output=tmp_path / str(number), num_frames=1, steps=1, callback_on_step_end=callback
            )
    looked = []
    look = lambda own, step, timestep, given: looked.append(given["latents"].shape)
    longtake.record(pipe, "a red ball", output=tmp_path / "seen", num_frames=1, steps=2, callback_on_step_end=look)
    assert len(looked) == 2


def test_a_folder_without_a_run_is_named(tmp_path):
    for call in (longtake.open_run, longtake.resume):
        with pytest.raises(RunError, match=str(tmp_path)):
            call(tmp_path)


def test_a_run_begins_with_the_name_of_a_model(whole, tmp_path):
    asked = {**ASKED, "seed": np.int64(3), "seconds": np.float32(4)}
    named = longtake.record("pocket", ["a red ball"], output=tmp_path / "named", negative_prompt=[""], **asked)
    assert digest(named) == digest(whole)


def test_what_cannot_be_recorded_or_edited_is_said_in_the_words_of_python(pipe, whole, tmp_path):
    few, folder = dict(num_frames=5, steps=1), tmp_path / "run"
    embeddings = pipe.encode_prompt("a red ball")
    refused = [
        (lambda: longtake.record("a red ball", pipe, output=folder, **few), "the pipeline first"),
        (
            lambda: longtake.record(pipe, "a", output=folder, guidance_scale=longtake.Guidance(2.0), **few),
            "as a number",
        ),
        (lambda: longtake.record(5, "a red ball", output=folder, **few), "a pipeline first"),
        (lambda: longtake.record(pipe, ["a", "b"], output=folder, **few), "is a batch"),
        (lambda: longtake.record(pipe, "a red ball", **few), "output is missing"),
        (lambda: longtake.record(pipe, prompt_embeds=embeddings, output=folder, **few), "not their embeddings"),
        (lambda: longtake.record(pipe, "a", output=folder, output_type="pil", **few), "frames as uint8"),
        (lambda: longtake.record(pipe, "a", output=folder, callback_on_step_end=5, **few), "must be a function"),
        (lambda: longtake.open_run(None), "must be a path"),
        (lambda: longtake.resume(5), "must be a path"),
        (lambda: longtake.resume(whole.folder, device="gpu"), "^device must be"),
    ]
    for call, words in refused:
        with pytest.raises(longtake.InputError, match=words) as error:
            call()
        assert "--" not in str(error.value)
    assert not folder.exists()
    for call in (longtake.open_run, longtake.resume):
        with pytest.raises(RunError, match="is a file, not a run directory"):
            call(whole.folder / "run.json")


def test_wrong_edits_are_refused_at_once(pipe, tmp_path):
    answers = []

    def edit(event):
        if isinstance(event, longtake.SegmentWritten) and not answers:
            run = longtake.open_run(tmp_path / "run")
            for call in (
                lambda: run.add(None),
                lambda: run.add(["a", "b"]),
                lambda: run.add("a", seconds="x"),
                lambda: run.add("a", seconds=-1),
                lambda: run.add("a", seconds=float("nan")),
                lambda: run.insert("a", at="x"),
                lambda: run.replace("a", at=0),
            ):
                with pytest.raises(longtake.ScriptError) as error:
                    call()
                answers.append(str(error.value))
            pipe.interrupt()

    longtake.record(pipe, "a red ball", output=tmp_path / "run", on_event=edit, seconds=10, steps=1)
    assert len(answers) == 7 and not any("--" in answer for answer in answers)


def test_an_edit_that_nobody_will_decide_is_answered_at_once(pipe, tmp_path):
    longtake.record(pipe, "a red ball", output=tmp_path / "run", on_event=lambda event: pipe.interrupt(), **ASKED)
    run = longtake.open_run(tmp_path / "run")
    begun = time.monotonic()
    assert not run.add("a blue star", seconds=1).accepted and time.monotonic() - begun < 1
    assert longtake.resume(tmp_path / "run").scenes()[-1].prompt == "a blue star"
