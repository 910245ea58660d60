"""Every planted fault breaks its own rule and no other; a good clip breaks none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longtake.data.filters import DuplicateIndex, broken_rules
from longtake.data.rules import RuleError, Rules
from longtake.data.shots.analysis import Analysis, AnalysisSettings, Shot, analyse
from longtake.data.shots.metrics import ShotMetrics, fingerprint_distance
from tests.data.clips import blurred, moving, real, texture, write

STRICT = Rules()


def analysed(path: Path) -> Analysis:
    return analyse(path, AnalysisSettings("none", "none", 60.0, path.parent / "work"))


def reasons(file: Analysis, rules: Rules = STRICT) -> set[str]:
    return {name for shot in file.shots for name, _ in broken_rules(rules, shot, file)}


FAULTS = {
    "good": lambda: moving(),
    "blurred": lambda: blurred(moving(count=20)),
    "still": lambda: [texture(1)] * 24,
    "dark": lambda: [frame // 12 for frame in moving(2)],
    "bright": lambda: [255 - frame // 12 for frame in moving(3)],
    "small": lambda: moving(4, height=120, width=160),
    "short": lambda: moving(5, count=8),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return the analysis of a clip for every fault."""
    folder = tmp_path_factory.mktemp("faults")
    return {fault: analysed(write(folder / f"{fault}.mp4", frames())) for fault, frames in FAULTS.items()}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_no_other(fault, clips):
    assert reasons(clips[fault]) == (set() if fault == "good" else {fault})


def test_limits_of_zero_keep_every_shot(clips):
    loose = Rules(min_seconds=0, min_side=0, min_sharpness=0, min_motion=0, min_brightness=0, max_brightness=256)
    assert not any(reasons(file, loose) for file in clips.values())


def test_damaged_frames_are_named(tmp_path):
    file = analysed(write(tmp_path / "a.mp4", moving()))
    shot = replace(file.shots[0], metrics=replace(file.shots[0].metrics, damaged=3))
    assert dict(broken_rules(Rules(), shot, file)) == {"damaged": "3 of 24 frames"}


@pytest.mark.parametrize("wrong", [{"min_seconds": -1.0}, {"min_sharpness": float("nan")}, {"min_brightness": 250.0}])
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(RuleError):
        Rules(**wrong)


def test_a_compressed_copy_has_nearly_the_same_fingerprint(tmp_path):
    """Compare the pristine, the coarsely compressed and a different clip."""
    files = [real("carphone_pristine.mp4"), real("carphone_distorted.mp4"), write(tmp_path / "a.mp4", moving())]
    looks = [
        analyse(file, AnalysisSettings("none", "none", 60.0, tmp_path)).shots[0].metrics.fingerprint for file in files
    ]
    assert fingerprint_distance(looks[0], looks[1]) <= 12 < 40 < fingerprint_distance(looks[0], looks[2])


def test_duplicates_are_found_among_many():
    rng, seen = np.random.default_rng(0), DuplicateIndex()
    looks = [rng.bytes(16).hex() for _ in range(300)]
    for number, look in enumerate(looks):
        seen.add(look, 4.0, f"shot {number}")
    near = f"{int(looks[123], 16) ^ sum(1 << bit for bit in (0, 17, 40, 77, 90, 101, 127)):032x}"
    far = f"{int(looks[123], 16) ^ sum(1 << bit for bit in range(0, 128, 8)):032x}"
    assert seen.find(near, 4.1) == "shot 123"
    assert seen.find(far, 4.0) is None and seen.find(near, 6.0) is None and seen.find("", 4.0) is None
    seen.add("", 1.0, "a shot too short to be measured")
    assert fingerprint_distance("", looks[0]) == 128


def test_a_stored_analysis_is_read_back(tmp_path):
    file = analysed(write(tmp_path / "a.mp4", moving(), times=[n + (n > 10) * 3 for n in range(24)]))
    assert file.shots[0].stamps[10:12] != [0, 0] and len(file.shots[0].stamps) == 24
    assert analysed(tmp_path / "a.mp4") == file
    gap = np.diff(file.shots[0].stamps)
    assert gap[10] == 4 * gap[0] and set(gap) == {gap[0], gap[10]}
    assert isinstance(file.shots[0], Shot) and isinstance(file.shots[0].metrics, ShotMetrics)
