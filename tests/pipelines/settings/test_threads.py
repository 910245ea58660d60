"""CPU threads: OMP_NUM_THREADS and the quota of a container are honoured, and one thread is chosen where it is faster."""

from __future__ import annotations

import pytest

from longtake.cli import run
from longtake.cli.generation import generate_videos
from longtake.pipelines.settings import threads
from longtake.pipelines.settings.threads import cpu_quota, default_threads, slowdown
from longtake.runs.files.manifest import manifest_of


def group(tmp_path, own, **files):
    """Write a tree of control groups; return it and the file that lists the groups of the process."""
    for name, text in files.items():
        file = tmp_path / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "own").write_text(own)
    return tmp_path / "cgroup", tmp_path / "own"


@pytest.mark.parametrize(("own", "files", "quota"), [
    ("0::/box/inner\n", {"box__cpu_dot_max": "150000 100000\n", "box__inner__cpu_dot_max": "max 100000\n"}, 1.5),
    ("0::/\n", {"cpu_dot_max": "max 100000\n"}, None),
    ("0::/../../box\n", {"cpu_dot_max": "50000 100000\n"}, 0.5),
    ("3:cpu,cpuacct:/d\n", {"cpu__d__cpu_dot_cfs_quota_us": "400000", "cpu__d__cpu_dot_cfs_period_us": "100000"}, 4.0),
    ("3:cpu:/d\n", {"cpu__cpu_dot_cfs_quota_us": "-1", "cpu__cpu_dot_cfs_period_us": "100000"}, None),
    ("nonsense", {"cpu_dot_max": "nonsense"}, None),
])  # fmt: skip
def test_the_quota_of_a_container_is_read(tmp_path, own, files, quota):
    assert cpu_quota(*group(tmp_path, own, **files)) == quota


def test_the_default_is_what_omp_and_the_container_grant(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1.5)
    assert default_threads() <= 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert default_threads() <= 2


@pytest.mark.parametrize(("slower", "chosen"), [(4.7, 1), (0.6, 2)])
def test_one_thread_is_chosen_where_it_is_faster_and_the_run_records_it(capsys, tmp_path, monkeypatch, slower, chosen):
    monkeypatch.setattr(generate_videos, "default_threads", lambda: 2)
    monkeypatch.setattr(generate_videos, "slowdown", lambda count: slower)
    assert (
        run(["generate", "a", "--model", "clock", "--seconds", "0.2", "--device", "cpu", "-o", str(tmp_path / "o")])
        == 0
    )
    assert manifest_of(tmp_path / "o").threads == chosen
    assert ("4.7 times slower" in capsys.readouterr().out) == (chosen == 1)


def test_a_trial_leaves_the_number_of_threads_alone():
    before = threads.torch.get_num_threads()
    assert slowdown(1) > 0 and threads.torch.get_num_threads() == before


def test_so_many_threads_are_refused(capsys, tmp_path):
    for count in ("0", "-1", "999999999"):
        assert run(["generate", "a", "--model", "clock", "--threads", count, "-o", str(tmp_path / "o")]) == 2
        assert "--threads must be at least 1 and at most 1024" in capsys.readouterr().err
