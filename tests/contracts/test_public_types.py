"""Type checkers and editors see the whole public API: a file that uses every name of it passes `mypy --strict`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import longtake

USES = Path(__file__).with_name("public_api.py")


def test_the_list_of_public_names_is_one():
    assert sorted(longtake.__all__) == sorted(longtake._HOME)
    assert all(re.search(rf"\b{name}\b", longtake.__doc__) for name in longtake.__all__)


def test_the_typed_file_uses_every_public_name():
    text = USES.read_text(encoding="utf-8")
    assert not [name for name in longtake.__all__ if not re.search(rf"\b{name}\b", text)]


@pytest.mark.long
def test_every_public_name_passes_a_strict_type_checker(tmp_path):
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path)]
    command += ["--follow-imports", "silent", "--ignore-missing-imports"]
    source = Path(longtake.__file__).parents[1]
    copy = tmp_path / "uses.py"
    copy.write_text(USES.read_text(encoding="utf-8"), encoding="utf-8")
    checked = subprocess.run([*command, str(copy)], capture_output=True, text=True, env={"MYPYPATH": str(source)})
    assert checked.returncode == 0, checked.stdout + checked.stderr
    copy.write_text("import longtake\nlongtake.load('pocket')('a', num_frame=3)\n", encoding="utf-8")
    checked = subprocess.run([*command, str(copy)], capture_output=True, text=True, env={"MYPYPATH": str(source)})
    assert 'Unexpected keyword argument "num_frame"' in checked.stdout
