"""A few of the generated inputs in processes of their own, which may take 4 GB of address space beside the libraries."""

import random
import resource
import subprocess
import sys

import pytest

from tests.fuzz.harness import BYTES, SECONDS, Case, sentence
from tests.fuzz.test_media_and_tables import pictures, videos
from tests.fuzz.test_run_directories import refused
from tests.fuzz.test_scripts_and_flags import scripts
from tests.fuzz.test_weights import bad_loras, checkpoints

CASES = [
    random.Random(0).choice([case for case in cases() if case.code == 2])
    for cases in (scripts, pictures, videos, refused, checkpoints, bad_loras)
]


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_process_refuses_it_within_its_memory(case: Case, tmp_path):
    (tmp_path / "in").mkdir()
    words = [str(word) for word in case.make(tmp_path / "in", random.Random(case.name))]
    words = [word.replace("{out}", str(tmp_path / "out")) for word in words]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    done = subprocess.run(
        [sys.executable, "-m", "longtake", *words], capture_output=True, text=True, timeout=SECONDS, preexec_fn=limit
    )
    assert done.returncode == 2, done.stderr
    sentence(done.stderr, done.stderr)
