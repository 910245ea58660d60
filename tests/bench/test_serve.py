"""The bench of the server: a small load on a real server, in which nothing is missing and nothing comes twice."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.long
def test_a_small_load(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_serve", BENCH / "serve.py")
    bench = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_serve", bench)
    spec.loader.exec_module(bench)
    monkeypatch.setattr(bench, "LONGEST_VISIT", 2.0)
    monkeypatch.setattr(sys.modules["common"], "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(sys, "argv", ["serve.py", "--viewers", "2", "--jobs", "3", "--seconds", "10"])
    bench.main()
    line = json.loads((tmp_path / "results.jsonl").read_text())
    assert (line["bench"], line["viewers"], line["jobs"]) == ("serve", 2, 3)
    figures = line["figures"]
    assert figures["segments of the video"] > 0 and figures["dropped or repeated segments"] == 0
    assert figures["visits of the viewer that reconnects"] > 1 and figures["connections of the reader of events"] > 1
