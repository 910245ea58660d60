"""The pure modules of the page: scripts, edits, numbers, words, tested by node where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

PURE = Path(__file__).parent / "pure"


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to run the tests of the page's modules")
def test_the_pure_modules():
    files = sorted(map(str, PURE.glob("*.test.mjs")))
    done = subprocess.run(["node", "--test", *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
