"""Windows: which columns move, what a model refuses, and how keyframes are added behind the frames in view."""

from dataclasses import replace

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.planning.cost import cost
from longtake.planning.keyframe_columns import KeyframeColumn, with_end_frame, with_keyframes
from longtake.planning.limits import Limits
from longtake.planning.second_pass import second_pass_window
from longtake.planning.strategies.repeated_windows import RepeatedWindows
from longtake.planning.window import Cut, LatentSource, Window, check

LIMITS = Limits(max_latent_frames=4)


def window(frames, *rows, **options) -> Window:
    return Window(frames, torch.tensor(rows, dtype=torch.float64), **options)


PLAIN = window([0, 1, 2], [0.0, 1.0, 1.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0])


def test_a_constant_column_is_context_and_a_falling_one_is_generated():
    assert PLAIN.moves.tolist() == [False, True, True] and PLAIN.steps == 2
    assert PLAIN.role == ("context", "generate", "generate")
    assert PLAIN.positions == (0.0, 1.0, 2.0) and PLAIN.block == (0, 1, 2)


def test_a_window_whose_table_has_another_width_is_refused():
    with pytest.raises(PlanError, match="3 frames"):
        window([0, 1, 2], [1.0, 1.0], [0.0, 0.0])


@pytest.mark.parametrize(
    ("bad", "limits", "words"),
    [
        (PLAIN, replace(LIMITS, max_latent_frames=2), r"sees at once \(2\)"),
        (window([0], [0.5], [0.7]), LIMITS, "never rise"),
        (window([0], [1.5], [0.0]), LIMITS, r"\[0, 1\]"),
        (window([1, 0], [1.0, 1.0], [0.0, 0.0]), LIMITS, "in order"),
        (PLAIN, replace(LIMITS, conditioning="concat"), "clip-conditioned"),
        (PLAIN, replace(LIMITS, conditioning="none"), "clip"),
        (window([0], [1.0], [0.0], role=["concat"]), LIMITS, "relay"),
        (window([0, 1], [1.0, 1.0], [0.5, 1.0], [0.0, 0.0]), replace(LIMITS, per_frame_sigma=False), "one sigma"),
        (with_end_frame(PLAIN, 1), replace(LIMITS, causal=True), "causal"),
    ],
)
def test_what_a_model_cannot_run_is_refused(bad, limits, words):
    with pytest.raises(PlanError, match=words):
        check(bad, limits)


def test_what_a_model_can_run_passes():
    check(PLAIN, LIMITS)
    check(with_end_frame(PLAIN, 2), replace(LIMITS, max_latent_frames=3))


def test_an_end_frame_stands_behind_the_frames_in_view_and_stays_clean():
    after = with_end_frame(PLAIN, 1)
    assert after.frames == (0, 1, 2, 3) and after.role[-1] == "keyframe" and after.positions[-1] == 3.0
    assert not after.sigmas[:, 3].any() and after.sources == {3: LatentSource("end_frame", 0)}


def test_a_keyframe_of_less_strength_falls_with_the_rest():
    after = with_keyframes(PLAIN, [KeyframeColumn(LatentSource("keyframe"), 1.5, strength=0.3)])
    assert after.sigmas[:, 3].tolist() == pytest.approx([0.7, 0.5, 0.0]) and after.positions[-1] == 1.5
    assert with_keyframes(PLAIN, []) is PLAIN


def test_repeated_windows_are_built_once_and_moved():
    repeated, built = RepeatedWindows(), []

    def build():
        built.append(1)
        return replace(PLAIN, sources={2: LatentSource("copy", 0)})

    first = repeated("alike", [0, 1, 2], build)
    later = repeated("alike", [5, 6, 7], build)
    assert len(built) == 1 and first.frames == (0, 1, 2) and later.frames == (5, 6, 7)
    assert later.sources == {7: LatentSource("copy", 5)}


def test_cost_counts_clips_steps_and_columns():
    total = cost([PLAIN, replace(PLAIN, cut=Cut(1))])
    assert (total.windows, total.steps, total.columns) == (2, 4, 12)


def test_sigmas_of_the_second_stage_start_lower_and_leave_context_alone():
    view = window((0, 1, 2), [1.0, 0.0, 0.5], [0.6, 0.0, 0.5], [0.0, 0.0, 0.0])
    after = second_pass_window(view, (0.7, 0.3))
    assert after.sigmas.tolist() == [[0.7, 0.0, 0.5], [0.3, 0.0, 0.3], [0.0, 0.0, 0.0]]
    with pytest.raises(PlanError, match="end clean"):
        second_pass_window(window([0], [1.0], [0.5]), (0.7,))
