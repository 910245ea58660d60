"""The benchmark of pocket models scores every row of its table and writes what it prints."""

import json

import torch

from longtake.eval import pocket_benchmark
from longtake.eval.pocket_benchmark import (
    Outcome,
    describe,
    first_and_last_window,
    main,
    prompt_following,
    prompt_switches,
    psnr,
    shuffled,
    table,
    write,
)
from longtake.eval.pocket_prompts import Sampling, unseen_prompts
from longtake.models import load
from longtake.pocket.facts import JUDGED
from longtake.pocket.judge import Verdict, score


def test_shuffled_verdicts_meet_another_prompt():
    verdicts = [Verdict(None, None, None, name, 0.0) for name in ("sea", "snow", "day")]
    assert [verdict.scenery for verdict in shuffled(verdicts)] == ["snow", "day", "sea"]


def test_a_table_has_a_row_for_every_score():
    facts = [prompt.facts for prompt in unseen_prompts(8)]
    rows = {name: score(facts, [Verdict(None, None, None, "sea", 0.0)] * 8) for name in ("one", "two")}
    text = table(rows)
    assert text.count("%") == 8 and all(name in text for name in (*JUDGED, "one", "two"))


def test_psnr_falls_with_the_error():
    picture = torch.rand(3, 8, 8)
    assert psnr(picture, picture) > 90 > psnr(picture, picture * 0.99) > psnr(picture, picture * 0.8)


def test_a_prompt_is_described_by_the_facts_that_its_video_misses():
    (prompt,) = unseen_prompts(1, 3)
    assert describe(prompt, prompt.rendered()).endswith(": all facts shown")
    grey = describe(prompt, torch.full((97, 3, 64, 64), 0.5))
    assert "colour None" in grey and "motion None" in grey


def test_experiments_score_every_prompt_and_write_their_files(tmp_path, capsys, monkeypatch):
    """Grey videos stand for those of the model: it is the tables and the files that are tested here."""
    grey = lambda model, requests, *_: [torch.full((223, 3, 64, 64), 0.5) for _ in requests]
    monkeypatch.setattr(pocket_benchmark, "generate_all", grey)
    model, quick, prompts = load("pocket"), Sampling(steps=1), unseen_prompts(3, 5)
    outcome = prompt_following(model, prompts[:1], quick)
    assert list(outcome.rows) == ["true renders", "after the VAE", "pocket", "other prompts"]
    assert outcome.rows["true renders"]["motion"].hits == 1 and outcome.rows["pocket"]["motion"].hits == 0
    ends = first_and_last_window(model, prompts[:1], 3, quick)
    assert list(ends.rows) == ["window 1", "window 3"] and "100.0 dB" in ends.remark
    switched = prompt_switches(model, prompts, quick)
    assert list(switched.rows) == ["new colour", "new scenery", "new motion"]
    write(Outcome(switched.rows, switched.videos), prompts, quick, tmp_path, rows=2)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["settings"]["steps"] == 1 and scores["new colour"]["scenery"]["count"] == 1
    assert (tmp_path / "sheet.png").exists() and "Wrote" in capsys.readouterr().out


def test_the_command_generates_prompts_of_the_user(tmp_path, capsys):
    main(["--show", "a red ball over the sea", "--steps", "1", "--threads", "1", "-o", str(tmp_path)])
    assert (tmp_path / "sheet.png").exists() and "sheet.png" in capsys.readouterr().out
