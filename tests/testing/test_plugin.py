"""A package that nobody here knows adds a strategy and a command with entry points, and keeps the shipped contracts."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import longtake
from longtake.core.errors import PlanError
from longtake.planning.strategies.looping import Looping
from longtake.planning.strategies.registry import STRATEGIES, Strategy

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """An environment in which the example is installed: on the path, with the metadata that pip would write."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = site / f"longtake_growing-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in p.items()) for group, p in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points))
    path = [str(PLUGIN), str(site), str(Path(longtake.__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def run(installed, *arguments) -> str:
    """Run Python in the environment and return what it prints."""
    done = subprocess.run([sys.executable, *arguments], env=installed, cwd=PLUGIN, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_the_example_keeps_the_contract(installed):
    assert run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_growing.py").count(".") >= 9


@pytest.mark.long
def test_the_example_is_a_strategy_and_a_command_of_the_command_line(installed, tmp_path):
    assert "growing" in run(installed, "-m", "longtake", "plan")
    assert "List the windows of the strategy growing." in run(installed, "-m", "longtake", "--help")
    assert run(installed, "-m", "longtake", "growing", "--first", "3").startswith("3 new latent frames\n6 new")
    assert "windows that double in length" in run(installed, "-m", "longtake", "plan", "growing", "--first", "2")
    words = ["generate", "a", "--model", "clock", "--strategy", "growing", "--first", "2", "--seconds", "1"]
    run(installed, "-m", "longtake", *words, "-o", str(tmp_path / "run"))
    assert (tmp_path / "run" / "video.mp4").exists()


def test_a_program_registers_its_own_strategy():
    longtake.register_strategy("mine", Strategy(Looping, "Mine", "tiles of my own", dict(strength=1.0)))
    assert "mine" in longtake.STRATEGIES and longtake.strategy("mine").strength == 1.0
    with pytest.raises(PlanError, match="called 'mine' already"):
        longtake.register_strategy("mine", STRATEGIES["looping"])
    STRATEGIES.remove("mine")
    assert "mine" not in STRATEGIES
